// What was decided, when, and why? The newest decision comes first; a click shows the reason chain of its tick for as
// long as that is still known. Going blind and seeing again are decisions too: the controller chose to hold.

import { byId, element, keepChildren, setText } from "./dom.js";
import { flipped, moment, UNKNOWN } from "./format.js";
import { hueOf } from "./panels.js";

const KEPT = 200;
const FLEET = "fleet";
const QUIET_MS = 4000; // a screen reader is told at most this often

export class Decisions {
  constructor() {
    this.latestButton = byId("why-latest");
    this.latestButton.addEventListener("click", () => this.choose(null));
    this.forget();
  }

  forget() {
    this.entries = []; // newest first
    this.active = new Map(); // condition type -> was it true at the last tick
    this.lastNow = null;
    this.chosen = null;
    this.spokeAt = 0;
    byId("decisions").replaceChildren();
    byId("why").replaceChildren();
  }

  /** Read one frame; `history` is being replayed when not `live`. */
  add(frame, live) {
    const { status } = frame;
    if (status.now === this.lastNow) return; // the last frame of a run repeats its tick
    this.lastNow = status.now;
    const newest = this.entries[0];
    this.noticeSight(status);
    for (const flip of status.flips ?? []) this.noticeAction({ ...flip, role: flip.from_role, flip: flipped(flip) }, status);
    for (const action of status.actions) this.noticeAction(action, status);
    this.entries.length = Math.min(this.entries.length, KEPT);
    if (live && this.entries[0] !== newest) this.announce();
  }

  noticeSight(status) {
    const sight = status.conditions.find((one) => one.type === "ScalingActive");
    if (!sight) return;
    const before = this.active.get(sight.type) ?? true;
    this.active.set(sight.type, sight.status);
    if (before === sight.status) return;
    const change = sight.status ? "sees again" : "hold";
    this.note(status, { role: FLEET, change, reason: sight.reason, verdict: "", detail: sight.message });
  }

  noticeAction(action, status) {
    const change = action.flip ?? `${action.from_replicas} → ${action.to_replicas}`;
    const verdict = action.verdict ?? "Recommended";
    const last = this.entries.find((entry) => entry.role === action.role);
    if (!action.verdict && last?.change === change && last.reason === action.reason) {
      last.times = (last.times ?? 1) + 1; // advice that nobody follows is repeated every tick
      return;
    }
    this.note(status, { role: action.role, change, reason: action.reason, verdict, detail: action.detail ?? "" });
  }

  note(status, entry) {
    this.entries.unshift({ ...entry, now: status.now, status });
  }

  announce() {
    if (performance.now() - this.spokeAt < QUIET_MS) return;
    this.spokeAt = performance.now();
    const { role, change, reason, verdict } = this.entries[0];
    setText(byId("announce"), `${role} ${change.replace("→", "to")}: ${reason} ${verdict}`);
  }

  draw(history) {
    byId("no-decisions").hidden = this.entries.length > 0;
    const rows = keepChildren(byId("decisions"), this.entries.length, () => this.row());
    this.entries.forEach((entry, i) => fillRow(rows[i], entry, history.roles, entry === this.chosen));
    this.drawWhy(history);
  }

  row() {
    const button = element("button", "", ...["time", "who", "change", "reason", "verdict"].map((name) => element("span", name)));
    button.type = "button";
    const row = element("li", "", button);
    button.addEventListener("click", () => {
      const entry = this.entries[[...row.parentElement.children].indexOf(row)];
      this.choose(entry === this.chosen ? null : entry);
    });
    return row;
  }

  choose(entry) {
    this.chosen = entry;
    this.changed?.();
  }

  drawWhy(history) {
    const status = this.chosen?.status ?? history.latest.status;
    this.latestButton.hidden = this.chosen === null;
    setText(byId("why-when"), `${this.chosen ? "Tick of" : "Latest tick,"} ${moment(status.now)}`);
    const groups = status.findings ? grouped(status.findings) : [];
    const nodes = keepChildren(byId("why"), Math.max(1, groups.length), groupNode);
    (groups.length ? groups : [forgotten(this.chosen)]).forEach((group, i) => fillGroup(nodes[i], group, history.roles));
  }
}

/** What is left to say of a decision whose reason chain has been dropped. */
function forgotten(entry) {
  const text = entry?.detail ?? "";
  return { role: entry?.role ?? FLEET, findings: [{ stage: UNKNOWN, reason: "chain no longer kept", text, inputs: {} }] };
}

function fillRow(row, entry, roles, chosen) {
  const button = row.firstElementChild;
  const [time, who, change, reason, verdict] = button.children;
  setText(time, moment(entry.now));
  setText(who, entry.role);
  setText(change, entry.change);
  setText(reason, entry.reason);
  setText(verdict, entry.times ? `${entry.verdict} ×${entry.times}` : entry.verdict);
  verdict.dataset.verdict = entry.verdict;
  button.title = entry.detail;
  button.setAttribute("aria-pressed", String(chosen));
  tint(row, entry.role, roles);
}

/** Findings by role in their own order, those of the whole fleet last. */
function grouped(findings) {
  const groups = new Map();
  for (const finding of findings) {
    const role = finding.role ?? FLEET;
    if (!groups.has(role)) groups.set(role, { role, findings: [] });
    groups.get(role).findings.push(finding);
  }
  return [...groups.values()].sort((a, b) => (a.role === FLEET) - (b.role === FLEET));
}

function groupNode() {
  const head = element("tr", "", ...["Stage", "Reason", "What it said"].map((name) => element("th", "", name)));
  return element("table", "why", element("caption"), element("thead", "", head), element("tbody"));
}

function fillGroup(table, group, roles) {
  const [caption, , body] = table.children;
  setText(caption, group.role);
  tint(table, group.role, roles);
  const rows = keepChildren(body, group.findings.length, () => element("tr", "", element("td"), element("td"), element("td")));
  group.findings.forEach((finding, i) => {
    const [stage, reason, text] = rows[i].children;
    setText(stage, finding.stage);
    setText(reason, finding.reason);
    setText(text, finding.text);
    rows[i].title = Object.entries(finding.inputs).map(([name, value]) => `${name} = ${value ?? "not known"}`).join("\n");
  });
}

function tint(node, role, roles) {
  node.style.setProperty("--role", roles.includes(role) ? `var(${hueOf(roles, role)})` : "var(--muted)");
}
