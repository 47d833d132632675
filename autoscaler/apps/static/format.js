// How does a figure read? Short, with its unit, and a dash where nothing is known: never a zero. And what keeps replicas
// away, in a line each.

export const UNKNOWN = "–";
const EPOCH = 1e9; // simulated clocks count from 0, real ones stand beyond 2001

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const pad = (value) => String(value).padStart(2, "0");

/** 1234 -> "1234", 23456 -> "23.5k": three figures are enough to watch by. */
export function count(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  for (const [limit, suffix] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= limit) return figures(value / (suffix === "k" ? 1e3 : limit)) + suffix;
  }
  return figures(value);
}

/** Three significant figures, no trailing zeros: 12.345 -> "12.3", 0.5 -> "0.5". */
export function figures(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  const digits = size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

/** 0.0312 -> "31 ms", 2.41 -> "2.4 s". */
export function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 0.9995) return `${Number((value * 1000).toPrecision(value < 0.1 ? 2 : 3))} ms`;
  return `${Number(value.toFixed(value < 10 ? 1 : 0))} s`;
}

/** 0.9834 -> "98.3 %"; only a full hundred reads as 100. */
export function percent(value) {
  if (!known(value)) return UNKNOWN;
  const shown = Math.round(value * 1000) / 10;
  return `${shown === 100 && value < 1 ? 99.9 : shown} %`;
}

/** 0.95 -> "p95", 0.999 -> "p99.9". */
export const percentile = (quantile) => `p${Number((quantile * 100).toFixed(2))}`;

/** A moment on the controller's clock: "05:12:15", with the day where it is a simulated one. */
export function moment(now) {
  if (!known(now)) return UNKNOWN;
  const day = now >= EPOCH ? 0 : Math.floor(now / 86400);
  return `${day > 0 ? `day ${day + 1}, ` : ""}${timeOfDay(now)}:${pad(Math.floor(now % 60))}`;
}

/** The same, as short as an axis wants it: "05:12". */
export function timeOfDay(now) {
  if (now >= EPOCH) {
    const date = new Date(now * 1000);
    return `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  }
  const second = ((now % 86400) + 86400) % 86400;
  return `${pad(Math.floor(second / 3600))}:${pad(Math.floor((second % 3600) / 60))}`;
}

/** What there is to say about a pool beside its figures: ["2 not created: exceeded quota", "a rollout is under way"]. */
export function troubles(pool) {
  const words = (lack) => lack.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter}`).toLowerCase();
  const short = pool.shortages.map((one) => `${one.replicas} ${words(one.lack)}${one.text && `: ${one.text}`}`);
  return pool.note ? [...short, pool.note] : short;
}

/** What a flip does, in a few words: "1 → 2 encode". */
export const flipped = (flip) => `${flip.from_replicas} → ${flip.to_replicas} ${flip.to_role}`;

/** A drain or a flip by who is in it: "drain of encode", or of a flip "encode to render". */
export const move = (one) =>
  (one.from_role === one.to_role ? `drain of ${one.from_role}` : `${one.from_role} to ${one.to_role}`);

/** What became of it: "done in 42 s", "undone after 600 s: still busy", and how good that is. */
export function outcome(one) {
  const told = `${one.done ? "done in" : "undone after"} ${seconds(one.took_s)}${one.why && `: ${one.why}`}`;
  return { told, level: one.forced_requests > 0 ? "bad" : one.done ? "good" : "warn" };
}

/** What is under way now: each flip with its phase and age, and of each pool how many drain without being flipped. */
export function underWay(status) {
  const flips = status.flips_in_flight ?? [];
  const drains = Object.entries(status.pools).map(([role, pool]) => {
    const flipping = flips.filter((flip) => flip.from_role === role && flip.phase === "draining");
    return { role, many: (pool.phases.draining ?? 0) - flipping.reduce((sum, flip) => sum + flip.from_replicas, 0) };
  });
  return [
    ...flips.map((flip) => (
      { from_role: flip.from_role, what: move(flip), told: `${flip.phase} for ${seconds(status.now - flip.since_s)}` })),
    ...drains.filter(({ many }) => many > 0).map(({ role, many }) => (
      { from_role: role, what: `drain of ${role}`, told: `${many} finishing what ${many > 1 ? "they have" : "it has"}` })),
  ];
}

const WHY = {
  fits: "fits", idle: "a replica is idle", shortened: "fits when shortened", degraded: "fits as a lower class",
  ttft: "the first token would be late", tpot: "its tokens would be slow", reserved: "the room left is another class's",
  breaker: "the phase is overloaded", unreachable_slo: "late even alone, so let in", stale: "state too old, so let in",
  no_state: "no state, so let in", no_replicas: "no replica serves, so let in", uncalibrated: "speed not known, so let in",
  unauthenticated: "state not trusted, so let in", off: "not judged",
};
const between = ([least, most]) => (percent(least) === percent(most) ? percent(least) : `${percent(least)} to ${percent(most)}`);

/** What the sidecars do, in sentences: whom they turn away or would, and what hindsight says of it. */
export function doorStory({ door, rejected_rps }) {
  const all = door.verdicts.reduce((sum, one) => sum + one.rps, 0);
  const against = door.verdicts.reduce((sum, one) => sum + (one.admit ? 0 : one.rps), 0);
  if (door.mode === null) return ["Nobody asks now."];
  if (door.mode === "off") return ["Mode off: everybody is let in, unjudged."];
  const share = `${percent(against / all)} of ${figures(all)} verdicts/s`;
  if (door.mode === "enforce") {
    const load = known(rejected_rps) ? ` ${figures(rejected_rps)} requests/s that are not let in later count as load.` : "";
    return [`Mode enforce: ${share} turn a request away.${load}`];
  }
  const { could_be_served: lost, missed } = door.hindsight;
  const told = [`Mode shadow: everybody is let in; ${share} would turn a request away.`];
  if (lost) told.push(`Of all requests ${between(lost)} would be turned away though they could be served,`);
  if (lost && missed) told.push(`${between(missed)} let in and late all the same.`);
  return told;
}

/** One kind of verdict as the cells of a row: "4.2/s", "turned away", "the first token would be late", "free". */
export function verdictRow(one, mode) {
  const no = mode === "enforce" ? "turned away" : "would be turned away";
  return [`${figures(one.rps)}/s`, one.admit ? "let in" : no, WHY[one.reason] ?? one.reason, one.qos];
}

/** Which model speaks and by what right: "says arima, 120 s ahead, off by 310, bound held 91 %". */
export function earned(ahead) {
  if (!ahead?.model) return "nothing forecast";
  const parts = [`says ${ahead.model}, ${Math.round(ahead.horizon_s)} s ahead`];
  parts.push(known(ahead.error) ? `off by ${count(ahead.error)}` : "unproven yet");
  if (known(ahead.coverage)) parts.push(`bound held ${percent(ahead.coverage)}`);
  return parts.join(", ");
}

/** How fast the engines were found to be, against the profile; nothing where nothing is sized by it. */
export function pace(pool) {
  if (!known(pool.speed_applied)) return "";
  if (!known(pool.speed_measured)) return "speed as in the profile, none measured yet";
  const sure = `${Math.round(pool.speed_confidence * 100)} % sure`;
  return `work takes ${figures(pool.speed_measured)}× the profile's time (${sure}), sized with ${figures(pool.speed_applied)}×`;
}
