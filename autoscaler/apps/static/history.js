// What has happened to this fleet, as columns a chart can draw?
//
// One point per tick, the oldest dropped beyond MOST. A tick whose value is not known gives null, and so does a stretch
// without ticks: a chart draws nothing there and hatches it. Roles are whatever the status names, in the order seen.

const MOST = 2000;
const SILENCE = 4; // this many usual tick intervals without a tick are a gap, not a line to draw through
const LEAST_SILENCE_S = 20;
const ENDED = 8; // drains and flips that are over and still told

export class History {
  constructor() {
    this.points = []; // {now, status}, ascending; status without its findings and verdicts
    this.latest = null; // the newest frame, whole
    this.roles = [];
    this.ended = []; // the newest first, each with `now`, when it was told
  }

  /** Take one frame. The last one of a run repeats its tick and replaces it; an older one is not news. */
  add(frame) {
    const { findings: _, door: __, ...status } = frame.status;
    const last = this.points.at(-1);
    if (last && status.now < last.now) return false;
    if (last && status.now === last.now) this.points.pop();
    this.points.push({ now: status.now, status });
    if (this.points.length > MOST) this.points.shift();
    for (const role of Object.keys(status.pools)) if (!this.roles.includes(role)) this.roles.push(role);
    this.latest = frame;
    this.noteEnded(frame.status);
    return true;
  }

  /** Each is told by one tick only, which may be repeated as the last one. */
  noteEnded(status) {
    const known = new Set(this.ended.map((one) => one.name));
    const fresh = (status.ended ?? []).filter((one) => !known.has(one.name)).map((one) => ({ ...one, now: status.now }));
    this.ended = [...fresh.reverse(), ...this.ended].slice(0, ENDED);
  }

  /** The newest pools that are known: a fleet that cannot be read for a moment keeps its last face. */
  lastPools() {
    return this.points.findLast((point) => Object.keys(point.status.pools).length > 0)?.status.pools ?? {};
  }

  /** The points of the last `span_s` seconds with a hole {now, status: null} where ticks are missing. */
  window(span_s) {
    const from = (this.points.at(-1)?.now ?? 0) - span_s;
    const shown = this.points.filter((point) => point.now >= from);
    const silence_s = Math.max(LEAST_SILENCE_S, SILENCE * usualInterval(shown));
    const whole = [];
    for (const point of shown) {
      const before = whole.at(-1);
      if (before && point.now - before.now > silence_s) whole.push({ now: before.now + silence_s / SILENCE, status: null });
      whole.push(point);
    }
    return whole;
  }
}

/** When each point was. */
export const times = (points) => points.map((point) => point.now);

/** One column over points: `read(status)`, null where there is no status or nothing is known. */
export const column = (points, read) => points.map((point) => (point.status ? read(point.status) ?? null : null));

/** The same for a role's pool. */
export const poolColumn = (points, role, read) =>
  column(points, (status) => (status.pools[role] ? read(status.pools[role], status) : null));

function usualInterval(points) {
  const recent = points.slice(-50);
  const steps = recent.slice(1).map((point, i) => point.now - recent[i].now).sort((a, b) => a - b);
  return steps.length ? steps[Math.floor(steps.length / 2)] : 0;
}
