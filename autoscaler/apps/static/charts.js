// How is one chart drawn? A heading with a key that shows the value under the cursor (or the newest one), and below it
// uPlot with the shared time cursor, hatching where nothing is known and a tint over what lies ahead.
//
// A curve is {name, color, format, ...look}; its colours are functions, since dark and light may change while we watch.

import { color, hatch } from "./colors.js";
import { element, setText } from "./dom.js";
import { timeOfDay, UNKNOWN } from "./format.js";
import { paintMarks } from "./marks.js";

const uPlot = window.uPlot;
const CURSOR = "live";
const STEPPED = uPlot.paths.stepped({ align: 1 });
const TIME_STEPS_S = [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const DECADES = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]];
const FONT = "11px system-ui, sans-serif";

export class Chart {
  /**
   * `spec`: title, curves, yRange(min, max), format (of the value axis), and where wanted: height, log, whole (numbers),
   * bands, key (indices of curves in the order the key tells them), known (the curves that are all null where nothing
   * is known; default all), limit (the curve beyond which the ground is tinted), says (whether a line below tells more).
   */
  constructor(host, spec, onCursor) {
    this.spec = spec;
    this.onCursor = onCursor;
    this.title = element("h3", "", spec.title);
    this.keys = spec.curves.map(keyOf);
    this.key = element("ul", "key", ...(spec.key?.map((i) => this.keys[i]) ?? this.keys).map((key) => key.item));
    this.says = spec.says ? element("p", "says") : null;
    this.canvas = element("div", "canvas");
    this.figure = element("figure", "panel chart", element("figcaption", "", this.title, this.key, this.says), this.canvas);
    this.marks = [];
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${spec.title} over time; the newest values stand above`);
    host.append(this.figure);
    this.shown = spec.curves.map(() => []);
    this.plot = new uPlot(this.options(), [[], ...spec.curves.map(() => [])], this.canvas);
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.canvas);
  }

  /**
   * Draw `columns` = {x, ys, shown?, marks?, says?}; `shown` are the key's values where they differ from what is drawn
   * (stacks), `marks` what happened when (marks.js), `says` the text of the line below the heading.
   */
  update(columns, range, now) {
    this.now = now;
    this.marks = columns.marks ?? [];
    if (this.says) setText(this.says, columns.says ?? "");
    this.shown = columns.shown ?? columns.ys;
    this.plot.batch(() => {
      this.plot.setData([columns.x, ...columns.ys], false);
      this.plot.setScale("x", range);
    });
    this.tell();
  }

  repaint() {
    this.keys.forEach((key, i) => paintSwatch(key.swatch, this.spec.curves[i]));
    this.plot.redraw(false, true);
  }

  tell() {
    const at = this.plot.cursor.idx;
    const hovering = at !== null && at !== undefined && this.plot.cursor.left >= 0;
    this.keys.forEach((key, i) => {
      const curve = this.spec.curves[i];
      const until = curve.ahead ? Infinity : this.now;
      const value = hovering ? valueAt(this.shown[i], at) : newest(this.shown[i], this.plot.data[0], until);
      setText(key.value, value === null ? UNKNOWN : curve.format(value));
      key.item.hidden = Boolean(curve.quiet) && !this.shown[i].some((one) => one);
    });
  }

  size() {
    return { width: Math.max(200, this.canvas.clientWidth), height: this.spec.height ?? 130 };
  }

  options() {
    const { spec } = this;
    const scale = { distr: spec.log ? 3 : 1, range: (_, low, high) => spec.yRange(low, high) };
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, 20, 0, 0],
      scales: { x: { time: false, auto: false }, y: scale },
      axes: [this.timeAxis(), this.valueAxis()],
      series: [{}, ...spec.curves.map(seriesOf)],
      bands: (spec.bands ?? []).map((band) => ({ series: band.between, fill: () => band.color() })),
      cursor: {
        sync: { key: CURSOR, scales: ["x", null] },
        drag: { x: false, y: false },
        y: false,
        dataIdx: (_, i, at) => (i === 0 || spec.curves[i - 1].mark ? at : null), // a dot on curves, none on stacks
      },
      hooks: {
        drawClear: [(plot) => this.paintGround(plot)],
        draw: [(plot) => paintMarks(plot, this.marks)],
        setCursor: [(plot) => this.moved(plot)],
      },
    };
  }

  moved(plot) {
    this.tell();
    this.onCursor(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null);
  }

  timeAxis() {
    return {
      ...axisLook(), size: 27, gap: 8, space: 56, incrs: TIME_STEPS_S,
      values: (_, splits) => splits.map(timeOfDay),
    };
  }

  valueAxis() {
    const { spec } = this;
    const axis = { ...axisLook(), size: 46, space: 26, values: (_, splits) => splits.map(spec.format) };
    if (spec.log) Object.assign(axis, { splits: (_, __, low, high) => decadeSteps(low, high), filter: (_, splits) => splits });
    if (spec.whole) axis.incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
    return axis;
  }

  /** What lies under the curves: time ahead, values beyond the limit, and stretches where nothing is known. */
  paintGround(plot) {
    const { ctx, bbox } = plot;
    const x = (value) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(value, "x", true)));
    const box = (from, to, fill) => {
      ctx.fillStyle = fill;
      ctx.fillRect(x(from), bbox.top, Math.max(1, x(to) - x(from)), bbox.height);
    };
    ctx.save();
    if (this.now < plot.scales.x.max) box(this.now, plot.scales.x.max, color("--ahead"));
    for (const [from, to] of this.holes(plot.data)) box(from, to, hatch(ctx, "--hatch", "--panel"));
    if (this.spec.limit !== undefined) this.paintLimit(plot);
    ctx.restore();
  }

  /** Stretches [from, to] in which nothing is known: from the first such moment to the next known one. */
  holes([times, ...ys]) {
    const telling = this.spec.known?.map((i) => ys[i]) ?? ys;
    const found = [];
    let from = null;
    for (let i = 0; i < times.length && times[i] <= this.now; i += 1) {
      const known = telling.some((values) => values[i] !== null && values[i] !== undefined);
      if (!known && from === null && telling.some((values) => values[i] === null)) from = times[i];
      if (known && from !== null) {
        found.push([from, times[i]]);
        from = null;
      }
    }
    return from === null ? found : [...found, [from, this.now]];
  }

  paintLimit(plot) {
    const limit = newest(this.shown[this.spec.limit], plot.data[0], Infinity);
    if (limit === null || limit > plot.scales.y.max) return;
    const { ctx, bbox } = plot;
    ctx.fillStyle = color("--beyond");
    ctx.fillRect(bbox.left, bbox.top, bbox.width, Math.max(0, plot.valToPos(limit, "y", true) - bbox.top));
  }
}

function axisLook() {
  return {
    font: FONT, gap: 4, stroke: () => color("--muted"),
    grid: { stroke: () => color("--grid"), width: 1 }, ticks: { show: false }, border: { show: false },
  };
}

function seriesOf(curve) {
  return {
    label: curve.name, spanGaps: false, scale: "y", points: { show: false },
    stroke: curve.width === 0 ? null : () => curve.color(),
    fill: curve.fill ? (plot) => curve.fill(plot.ctx) : null,
    width: curve.width ?? 1.25,
    dash: curve.dash ?? null,
    paths: curve.stepped ? STEPPED : undefined,
  };
}

function keyOf(curve) {
  const swatch = element("span", `swatch ${curve.swatch ?? "line"}`);
  const value = element("b", "", UNKNOWN);
  paintSwatch(swatch, curve);
  return { swatch, value, item: element("li", "", swatch, `${curve.name} `, value) };
}

function paintSwatch(swatch, curve) {
  swatch.style.setProperty("--curve", curve.color());
}

function valueAt(values, at) {
  let i = at;
  while (i > 0 && values[i] === undefined) i -= 1; // a column joined from another clock has no value of its own here
  return values[i] ?? null;
}

function newest(values, times, until) {
  for (let i = values.length - 1; i >= 0; i -= 1) if (times[i] <= until && values[i] !== undefined) return values[i];
  return null;
}

/** Axis steps of a logarithmic scale: the coarsest set per decade that shows at least three. */
function decadeSteps(low, high) {
  for (const digits of DECADES) {
    const steps = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      steps.push(...digits.map((digit) => Number((digit * 10 ** power).toPrecision(3))));
    }
    const inside = steps.filter((step) => step >= low && step <= high);
    if (inside.length >= 3) return inside;
  }
  return [low, high];
}
