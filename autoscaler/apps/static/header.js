// Is the fleet well? Five seconds: one sentence with a mark, the conditions as chips, and the figures that matter.

import { byId, element, keepChildren, setText } from "./dom.js";
import { count, figures, flipped, moment, percent, percentile, seconds, UNKNOWN } from "./format.js";
import { hueOf, userLatency } from "./panels.js";

const MARKS = { good: "✓", warn: "!", bad: "✕", wait: "…" };
const GRAVITY = ["bad", "warn", "wait", "good"];
// Which answer of a condition is the good one. A condition not named here is shown without a colour.
const GOOD = { AbleToScale: true, ScalingActive: true, ScalingLimited: false, Degraded: false };
const STUCK = "Stuck"; // the other reasons of Degraded are told by how many replicas are missing
const HARMLESS = "TooFewReplicas"; // kept at its minimum, a pool has more than it needs

/** Everything above the charts, from the newest frame. */
export function showHeader(frame, history) {
  const { status } = frame;
  setText(byId("fleet"), status.fleet);
  setText(byId("mode"), status.mode);
  byId("mode").hidden = false;
  byId("mode").dataset.mode = status.mode;
  setText(byId("clock"), moment(status.now));
  byId("speed").hidden = frame.speed === null;
  setText(byId("speed"), `${figures(frame.speed)}×`);
  showVerdict(status);
  showChips(status.conditions);
  showCards(frame, history);
  const banner = byId("banner");
  banner.hidden = !frame.ended;
  setText(banner, frame.ended ? `The run has ended at ${moment(status.now)}. This is its last state.` : "");
}

function showVerdict(status) {
  const said = judge(status).sort((a, b) => GRAVITY.indexOf(a.level) - GRAVITY.indexOf(b.level));
  byId("health").dataset.level = said[0].level;
  setText(byId("mark"), MARKS[said[0].level]);
  setText(byId("headline"), said[0].text);
  const more = said.slice(1).filter((one) => one.level !== "good");
  setText(byId("aside"), more.map((one) => one.text).join(" · ") || underWay(status));
}

/** Every judgement on this tick; at least one. */
function judge(status) {
  const latencies = Object.values(status.pools).map((pool) => latencyOf(pool, status));
  const said = latencies.filter((one) => one.missed).map((one) => (
    { level: "bad", text: `${one.name} is ${seconds(one.value)}, over its SLO of ${seconds(one.slo.threshold_s)}` }));
  const warn = (type, applies, what) => {
    const condition = status.conditions.find((one) => one.type === type);
    if (!condition || !applies(condition) || said.some((one) => one.message === condition.message)) return;
    said.push({ level: "warn", text: `${what} · ${condition.message}`, message: condition.message });
  }; // what holds a whole fleet is the message of several conditions, and is said once
  warn("ScalingActive", (one) => !one.status, "Holding");
  warn("AbleToScale", (one) => !one.status, "A change did not go through");
  warn("ScalingLimited", (one) => one.status && one.reason !== HARMLESS, "Limited");
  warn("Degraded", (one) => one.status && one.reason === STUCK, "A drain or a flip does not get on");
  for (const [role, pool] of Object.entries(status.pools)) {
    const missing = pool.shortages.reduce((sum, one) => sum + one.replicas, 0);
    if (missing) said.push({ level: "warn", text: `${missing} of ${pool.desired} ${role} replicas do not come` });
  }
  const met = latencies.length > 0 && latencies.every((one) => one.value !== null && !one.missed);
  if (met) said.push({ level: "good", text: "Every SLO is met" });
  return said.length ? said : [{ level: "wait", text: "Too few requests to judge the SLOs" }];
}

function levelOf(condition) {
  if (!(condition.type in GOOD) || condition.reason === HARMLESS) return "wait";
  return GOOD[condition.type] === condition.status ? "good" : "warn";
}

/** What is changing right now, or would be if the mode allowed it, in words. */
function underWay(status) {
  if (status.asleep) return "Asleep: nobody has asked for anything for long";
  const advice = status.actions.filter((action) => !action.verdict);
  const would = advice.map((action) => `would scale ${action.role} ${action.from_replicas} → ${action.to_replicas}`);
  const wished = (status.flips ?? []).filter((flip) => !flip.verdict);
  would.unshift(...wished.map((flip) => `would flip ${flip.from_role} ${flipped(flip)}`));
  const moving = Object.entries(status.pools).flatMap(([role, pool]) =>
    Object.entries(pool.phases).filter(([phase]) => phase !== "serving").map(([phase, many]) => `${many} ${role} ${phase}`));
  const flips = (status.flips_in_flight ?? []).map((flip) => `${flip.from_role} flips to ${flip.to_role}`);
  return [...moving, ...flips, ...would].join(", ") || "Nothing is changing";
}

function latencyOf(pool, status) {
  const value = userLatency(status, pool.slo.kind) ?? pool.slo.value_s;
  const name = `${pool.slo.kind.toUpperCase()} ${percentile(pool.slo.quantile)}`;
  return { name, value, slo: pool.slo, missed: value !== null && value > pool.slo.threshold_s };
}

function showChips(conditions) {
  const told = byId("told");
  const chips = keepChildren(byId("chips"), conditions.length, () => {
    const chip = element("button", "chip", element("b"), element("span"));
    chip.type = "button";
    chip.setAttribute("aria-expanded", "false");
    chip.addEventListener("click", () => toggleTold(chip, told));
    return chip;
  });
  conditions.forEach((condition, i) => {
    const chip = chips[i];
    chip.dataset.level = levelOf(condition);
    chip.title = condition.message;
    setText(chip.firstElementChild, condition.type);
    setText(chip.lastElementChild, `${condition.status ? "True" : "False"} · ${condition.reason}`);
    if (chip.getAttribute("aria-expanded") === "true") setText(told, `${condition.type}: ${condition.message}`);
  });
}

function toggleTold(chip, told) {
  const open = chip.getAttribute("aria-expanded") !== "true";
  for (const other of chip.parentElement.children) other.setAttribute("aria-expanded", "false");
  chip.setAttribute("aria-expanded", String(open));
  told.hidden = !open;
  setText(told, open ? `${chip.firstElementChild.textContent}: ${chip.title}` : "");
}

function showCards(frame, history) {
  const cards = [...nowCards(frame.status, history), ...(frame.score ? scoreCards(frame.score, frame.status) : [])];
  const nodes = keepChildren(byId("cards"), cards.length, () =>
    element("div", "card", element("p", "label"), element("p", "value"), element("p", "note")));
  cards.forEach((card, i) => {
    const [label, value, note] = nodes[i].children;
    setText(label, card.label);
    setText(value, card.value);
    setText(note, card.note);
    nodes[i].dataset.level = card.level ?? "";
    nodes[i].style.setProperty("--role", card.hue ? `var(${card.hue})` : "transparent");
  });
}

function nowCards(status, history) {
  const pools = Object.entries(status.pools);
  const gpus = pools.reduce((sum, [, pool]) => sum + pool.gpus, 0);
  const budget = status.gpu_budget === null ? "" : ` of ${status.gpu_budget}`;
  const shares = pools.map(([role, pool]) => `${pool.gpus} ${role}`).join(", ");
  return [
    offeredCard(status),
    ...pools.map(([role, pool]) => ({ ...latencyCard(latencyOf(pool, status)), hue: hueOf(history.roles, role) })),
    { label: "GPUs held", value: pools.length ? `${gpus}${budget}` : UNKNOWN, note: shares },
  ];
}

function offeredCard({ offered_rps, rejected_rps }) {
  const turned = offered_rps !== null && rejected_rps > 0 ? `, ${figures(rejected_rps)} of them turned away` : "";
  return { label: "Offered now", value: figures(turned ? offered_rps + rejected_rps : offered_rps), note: `requests/s${turned}` };
}

function latencyCard({ name, value, slo, missed }) {
  const card = { label: name, value: seconds(value) };
  const note = (verdict) => `SLO ${seconds(slo.threshold_s)}: ${verdict}`;
  if (value === null) return { ...card, note: note(slo.samples > 0 ? "too few to tell" : "not known") };
  return { ...card, note: note(missed ? "missed" : "met"), level: missed ? "bad" : "good" };
}

function scoreCards(score, status) {
  const quantiles = Object.values(status.pools).map((pool) => pool.slo.quantile);
  const wanted = quantiles.length ? Math.min(...quantiles) : null;
  const met = score.slo_attainment;
  const level = met === null || wanted === null ? "" : met >= wanted ? "good" : "bad";
  return [
    { label: "SLO attainment", value: percent(met), note: wanted === null ? "of this run" : `${percent(wanted)} wanted`, level },
    { label: "Served", value: count(score.served), note: `of ${count(score.offered)} offered` },
    { label: "GPU-hours", value: figures(score.gpu_hours), note: "start-up included" },
    { label: "Actions", value: count(score.actions), note: `${count(score.reversals)} reversed` },
  ];
}
