// Which charts does a fleet get? Three for the whole, three per role; the roles are those the status names.

import { Chart, color, hatch, mix } from "./charts.js";
import { element, keepChildren, setText } from "./dom.js";
import { count, figures, percent, percentile, seconds, troubles } from "./format.js";
import { column, poolColumn } from "./history.js";

const PALETTE = 6;
const SHORTEST_S = 300; // a chart of a run that has just begun is this wide
// From the bottom of the stack to its top: what serves, what will, what is leaving.
const PHASES = ["serving", "warming", "switching", "starting", "draining", "stuck"];
const DRAWN = {
  serving: (hue) => () => mix(hue, "--panel", 0.55),
  warming: (hue) => () => mix(hue, "--panel", 0.3),
  switching: (hue) => () => mix(hue, "--panel", 0.3),
  starting: (hue) => (ctx) => hatch(ctx, hue, "--panel"),
  draining: () => () => mix("--muted", "--panel", 0.45),
  stuck: () => () => mix("--bad", "--panel", 0.7),
};

/** The style sheet's name of a role's colour: one per role, the same in every picture. */
export const hueOf = (roles, role) => `--role-${(roles.indexOf(role) % PALETTE) + 1}`;

export class Panels {
  constructor(fleetHost, roleHost, onCursor) {
    Object.assign(this, { fleetHost, roleHost, onCursor });
    this.forget();
  }

  /** Start anew, for another fleet. */
  forget() {
    this.fleetHost.replaceChildren();
    this.roleHost.replaceChildren();
    this.roles = [];
    this.charts = [];
    this.heads = new Map();
  }

  draw(history, span_s) {
    if (history.roles.length !== this.roles.length || !this.charts.length) this.build(history);
    const horizon_s = Math.max(0, ...Object.values(history.lastPools()).map((pool) => pool.forecast_horizon_s ?? 0));
    const points = history.window(span_s + horizon_s); // what was forecast before the window falls due inside it
    if (!points.length) return;
    const now = points.at(-1).now;
    const range = { min: Math.max(points[0].now, now - span_s), max: now + horizon_s };
    range.min = Math.min(range.min, range.max - SHORTEST_S);
    for (const { chart, columns } of this.charts) chart.update(columns(points), range, now);
    for (const [role, head] of this.heads) tellHead(head, history.latest.status.pools[role]);
  }

  repaint() {
    for (const { chart } of this.charts) chart.repaint();
  }

  build(history) {
    this.forget();
    this.roles = [...history.roles];
    const pools = history.lastPools();
    this.add(this.fleetHost, offered());
    this.add(this.fleetHost, perRole("Waiting requests", this.roles, (pool) => pool.waiting, count, upFrom(0, 5)));
    this.add(this.fleetHost, perRole("KV cache in use", this.roles, (pool) => pool.kv_usage, percent, () => [0, 1]));
    for (const role of this.roles) {
      const hue = hueOf(this.roles, role);
      const head = { name: element("h2", "", role), facts: element("p", "facts"), troubles: element("ul", "troubles") };
      const host = element("section", "role", element("header", "", head.name, head.facts, head.troubles));
      host.style.setProperty("--role", `var(${hue})`);
      host.setAttribute("aria-label", role);
      this.roleHost.append(host);
      this.heads.set(role, head);
      for (const make of [replicas, load, latency]) this.add(host, make(role, hue, pools[role]));
    }
  }

  add(host, { spec, columns }) {
    this.charts.push({ chart: new Chart(host, spec, this.onCursor), columns });
  }
}

function tellHead(head, pool) {
  const lines = pool ? troubles(pool) : [];
  const rows = keepChildren(head.troubles, lines.length, () => element("li"));
  lines.forEach((line, i) => setText(rows[i], line));
  setText(head.facts, pool ? facts(pool) : "cannot be read now");
}

function facts(pool) {
  const demand = pool.demand === null ? "demand not known" : `needs ${figures(pool.demand)}, bound by ${pool.bound}`;
  const gpus = `${pool.gpus} GPU${pool.gpus === 1 ? "" : "s"}`;
  const starts = pool.startup_s === null ? "" : ` · starts in ${seconds(pool.startup_s)}`;
  return `${pool.desired} asked for, ${pool.min_replicas} to ${pool.max_replicas} allowed · ${demand} · ${gpus}${starts}`;
}

function offered() {
  const ink = () => color("--ink");
  const curves = [{ name: "offered", color: ink, fill: () => color("--wash"), format: figures, mark: true }];
  return {
    spec: { title: "Requests per second", curves, format: count, yRange: upFrom(0, 1) },
    columns: (points) => ({ x: times(points), ys: [column(points, (status) => status.offered_rps)] }),
  };
}

function perRole(title, roles, read, format, yRange) {
  const curves = roles.map((role) => ({ name: role, color: () => color(hueOf(roles, role)), format, mark: true }));
  return {
    spec: { title, curves, format, yRange },
    columns: (points) => ({ x: times(points), ys: roles.map((role) => poolColumn(points, role, read)) }),
  };
}

/** Replicas by phase as a stack of steps; drawn from the top down, so that each lower part covers the one above. */
function replicas(role, hue) {
  const topDown = [...PHASES].reverse();
  const serving = topDown.length - 1;
  const phases = topDown.map((phase) => ({
    name: phase, format: count, stepped: true, quiet: phase !== "serving", width: 1, color: edgeOf(phase, hue),
    fill: DRAWN[phase](hue), swatch: phase === "starting" ? "hatched" : "filled",
  }));
  const lines = [
    { name: "max", color: () => color("--muted"), dash: [2, 4], format: count, stepped: true, swatch: "dotted", width: 1 },
    { name: "target", color: () => color("--ink"), dash: [6, 4], format: count, stepped: true, swatch: "dashed" },
  ];
  const key = [...topDown.keys()].reverse().concat(serving + 2, serving + 1);
  return {
    spec: {
      title: "Replicas", curves: [...phases, ...lines], key, known: [serving], format: count, whole: true,
      yRange: (_, high) => [0, Math.max(2, high ?? 0) + 0.5],
    },
    columns: (points) => stack(points, role, topDown),
  };
}

function edgeOf(phase, hue) {
  const name = { draining: "--muted", stuck: "--bad" }[phase] ?? hue;
  return () => color(name);
}

function stack(points, role, topDown) {
  const own = topDown.map((phase) => poolColumn(points, role, (pool) => pool.phases[phase] ?? 0));
  // Where the pool cannot be read every phase is null, and so is their sum.
  const sumFrom = (i, at) => own.slice(i).reduce((sum, one) => (one[at] === null ? null : sum + one[at]), 0);
  const sums = own.map((_, i) => points.map((__, at) => sumFrom(i, at)));
  const present = own.map((values) => values.some((value) => value));
  const highest = Math.max(1, ...sums[0].filter((sum) => sum !== null));
  const target = poolColumn(points, role, (pool) => pool.target);
  // A maximum far above the pool would flatten it into a line.
  const max = poolColumn(points, role, (pool) => (pool.max_replicas <= highest * 2 ? pool.max_replicas : null));
  const told = poolColumn(points, role, (pool) => pool.max_replicas);
  const drawn = sums.map((values, i) => (present[i] || topDown[i] === "serving" ? values : values.map(() => null)));
  return { x: times(points), ys: [...drawn, max, target], shown: [...own, told, target] };
}

/** The load as it was, and the forecast where it is for: a tick's mean and upper bound stand one horizon later. */
function load(role, hue) {
  const own = () => color(hue);
  const curves = [
    { name: "actual", color: own, format: count, mark: true },
    { name: "forecast", color: () => color("--ink"), dash: [3, 3], width: 1, format: count, swatch: "dashed", ahead: true },
    { name: "upper bound", color: () => color("--band"), width: 0, format: count, swatch: "filled", ahead: true },
  ];
  return {
    spec: {
      title: "Load against forecast, tokens/s", curves, known: [0], format: count, yRange: upFrom(0, 10),
      bands: [{ between: [3, 2], color: () => color("--band") }],
    },
    columns: (points) => {
      const ahead = points.filter((point) => point.status?.pools[role]?.forecast_horizon_s != null);
      const due = ahead.map((point) => point.now + point.status.pools[role].forecast_horizon_s);
      const mean = poolColumn(ahead, role, (pool) => pool.forecast_mean);
      const upper = poolColumn(ahead, role, (pool) => pool.forecast_upper);
      const actual = poolColumn(points, role, (pool) => pool.load);
      const [x, ...ys] = window.uPlot.join([[times(points), actual], [due, mean, upper]]);
      return { x, ys };
    },
  };
}

/** The percentile the SLO is about, as users see it where a gateway tells, as the engines see it otherwise. */
function latency(role, hue, pool) {
  const slo = pool.slo;
  const curves = [
    { name: "users", color: () => color(hue), format: seconds, quiet: true, mark: true },
    { name: "engines", color: () => color(hue), format: seconds, quiet: true, mark: true },
    { name: "SLO", color: () => color("--bad"), dash: [6, 4], width: 1.5, format: seconds, swatch: "dashed", stepped: true },
  ];
  return {
    spec: {
      title: `${slo.kind.toUpperCase()} ${percentile(slo.quantile)} against SLO`, curves, known: [0, 1], format: seconds,
      log: true, limit: 2, yRange: around,
    },
    columns: (points) => {
      const users = column(points, (status) => userLatency(status, slo.kind));
      const engines = poolColumn(points, role, (one, status) =>
        (userLatency(status, slo.kind) === null ? one.slo.value_s : null));
      const limit = points.map((point) => point.status?.pools[role]?.slo.threshold_s ?? slo.threshold_s);
      return { x: times(points), ys: [users, engines, limit] };
    },
  };
}

/** A percentile users see, if it is known and of this kind. */
export function userLatency(status, kind) {
  return status.user_ttft?.kind === kind ? status.user_ttft.value_s : null;
}

const times = (points) => points.map((point) => point.now);
const upFrom = (low, least) => (_, high) => [low, Math.max(least, (high ?? 0) * 1.08)];
const around = (low, high) => (low === null || high === null ? [0.1, 10] : [Math.max(1e-4, low / 1.3), high * 1.3]);
