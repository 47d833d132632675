// Which charts does a fleet get? Four for the whole, three per role; the roles are those the status names.

import { Chart } from "./charts.js";
import { color, hatch, mix } from "./colors.js";
import { element, keepChildren, setText } from "./dom.js";
import { count, figures, pace, percent, percentile, seconds, troubles } from "./format.js";
import { aheadOf, bandAhead, foreseen, foreseenCurves } from "./foreseen.js";
import { column, poolColumn, times } from "./history.js";

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
    this.add(this.fleetHost, cached());
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
  const lasting = pool.demand_lasting > pool.demand * 1.02 ? `, ${figures(pool.demand_lasting)} lasting` : "";
  const demand = pool.demand === null ? "demand not known" : `needs ${figures(pool.demand)}${lasting}, bound by ${pool.bound}`;
  const floor = pool.min_in_force > pool.min_replicas ? ` (the calendar's ${pool.min_in_force}, not ${pool.min_replicas})` : "";
  const bounds = `${pool.desired} asked for, ${pool.min_in_force}${floor} to ${pool.max_replicas} allowed`;
  const gpus = `${pool.gpus} GPU${pool.gpus === 1 ? "" : "s"}`;
  const starts = pool.startup_s === null ? "" : `starts in ${seconds(pool.startup_s)}`;
  return [bounds, demand, gpus, starts, pace(pool)].filter(Boolean).join(" · ");
}

/** What gateway or engines take in, and all that arrives where a sidecar turns some of it away. */
function offered() {
  const curves = foreseenCurves("let in", () => color("--ink"), figures, { fill: () => color("--wash") });
  curves.push({ name: "with those turned away", color: () => color("--bad"), width: 1.5, format: figures, quiet: true });
  return {
    spec: {
      title: "Requests per second", curves, known: [0], format: count, yRange: upFrom(0, 1), bands: bandAhead(), says: true,
    },
    columns: (points) => {
      const all = column(points, (status) => (status.rejected_rps ? status.offered_rps + status.rejected_rps : null));
      return foreseen(points, column(points, (status) => status.offered_rps), (status) => status.traffic?.requests, all);
    },
  };
}

/** The share that sizing goes by. Doubted: caches are new or going, so it is taken as it was expected before. */
function cached() {
  const curves = [{ name: "sized with", color: () => color("--ink"), fill: () => color("--wash"), format: percent, mark: true }];
  return {
    spec: { title: "Prompt tokens cached", curves, format: percent, yRange: () => [0, 1], says: true },
    columns: (points) => {
      const newest = points.findLast((point) => point.status)?.status.traffic;
      const doubt = newest?.quarantined && newest.cached_ahead;
      const says = doubt ? "As expected before: new caches are empty" : "As last measured";
      return { x: times(points), ys: [column(points, (status) => status.traffic?.cached_share)], says };
    },
  };
}

function perRole(title, roles, read, format, yRange) {
  const curves = roles.map((role) => ({ name: role, color: () => color(hueOf(roles, role)), format, mark: true }));
  return {
    spec: { title, curves, format, yRange, says: true }, // nothing to say: it keeps the charts of a row in line
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
      title: "Replicas", curves: [...phases, ...lines], key, known: [serving], format: count, whole: true, says: true,
      yRange: (_, high) => [0, Math.max(2, high ?? 0) + 0.5],
    },
    columns: (points) => ({ ...stack(points, role, topDown), ...flips(points, role, hue) }),
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

/** Flips that were made, a wedge each, and those under way in words. */
function flips(points, role, hue) {
  const marks = points.flatMap((point) => (point.status?.flips ?? [])
    .filter((flip) => flip.verdict === "Applied" && [flip.from_role, flip.to_role].includes(role))
    .map((flip) => ({ at: point.now, up: flip.to_role === role, hue })));
  const newest = points.findLast((point) => point.status)?.status;
  const moving = (newest?.flips_in_flight ?? []).filter((flip) => [flip.from_role, flip.to_role].includes(role));
  const ways = moving.map((flip) =>
    `${flip.from_role} to ${flip.to_role}, ${flip.phase} for ${seconds(newest.now - flip.since_s)}`);
  const ups = marks.filter((mark) => mark.up).length;
  const made = marks.length ? `Flips: ▲ ${ups} to this role, ▼ ${marks.length - ups} from it` : "No flips in this time";
  return { marks, says: [made, ...ways].join(" · ") };
}

/** The load as it was, and the forecast where it is for: a tick's mean and upper bound stand one horizon later. */
function load(role, hue) {
  const curves = foreseenCurves("actual", () => color(hue), count);
  return {
    spec: {
      title: "Load against forecast, tokens/s", curves, known: [0], format: count, yRange: upFrom(0, 10),
      bands: bandAhead(), says: true,
    },
    columns: (points) => foreseen(points, poolColumn(points, role, (pool) => pool.load), (status) => aheadOf(status.pools[role])),
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

const upFrom = (low, least) => (_, high) => [low, Math.max(least, (high ?? 0) * 1.08)];
const around = (low, high) => (low === null || high === null ? [0.1, 10] : [Math.max(1e-4, low / 1.3), high * 1.3]);
