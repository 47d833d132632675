// How does a load stand against what was expected of it? A forecast is drawn where it is for: one horizon after it was made.

import { color } from "./colors.js";
import { earned } from "./format.js";
import { column, times } from "./history.js";

/** What is measured now, and what a forecast said of it one horizon before; then what else is drawn with it. */
export function foreseen(points, now, ahead, ...more) {
  const told = points.filter((point) => point.status && ahead(point.status)?.horizon_s != null);
  const due = told.map((point) => point.now + ahead(point.status).horizon_s);
  const [mean, upper] = ["mean", "upper"].map((name) => column(told, (status) => ahead(status)[name]));
  const [x, first, ...rest] = window.uPlot.join([[times(points), now, ...more], [due, mean, upper]]);
  const ys = [first, ...rest.slice(more.length), ...rest.slice(0, more.length)];
  const newest = points.findLast((point) => point.status)?.status;
  return { x, ys, says: earned(newest && ahead(newest)) };
}

/** The curves of that, in this order. */
export function foreseenCurves(name, hue, format, look = {}) {
  return [
    { name, color: hue, format, mark: true, ...look },
    { name: "forecast", color: () => color("--ink"), dash: [3, 3], width: 1, format, swatch: "dashed", ahead: true },
    { name: "upper bound", color: () => color("--band"), width: 0, format, swatch: "filled", ahead: true },
  ];
}

export const bandAhead = () => [{ between: [3, 2], color: () => color("--band") }];

/** A pool's forecast, under the names of any other. */
export const aheadOf = (pool) => pool && {
  mean: pool.forecast_mean, upper: pool.forecast_upper, horizon_s: pool.forecast_horizon_s,
  model: pool.forecast_model, error: pool.forecast_error, coverage: pool.forecast_coverage,
};
