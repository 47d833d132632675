// Which replicas are being drained or flipped now, and what became of the last ones? A short list: what is under way stands
// above what is over, the newest first, each with a mark that can be told from afar. Nothing of it while there was none.

import { byId, element, keepChildren, setText } from "./dom.js";
import { moment, move, outcome, underWay } from "./format.js";
import { hueOf } from "./panels.js";

const MARKS = { wait: "…", good: "✓", warn: "↶", bad: "✕" };
const LEVELS = { wait: "under way", good: "done", warn: "undone", bad: "requests were given up" };

/** Fill the list from the newest frame and what has ended before it. */
export function showMoves(history) {
  const { status } = history.latest;
  const now = underWay(status).map((one) => ({ ...one, level: "wait", when: "now" }));
  const over = history.ended.map((one) => ({ ...one, ...outcome(one), what: move(one), when: moment(one.now) }));
  const rows = [...now, ...over];
  byId("moves").hidden = rows.length === 0;
  const nodes = keepChildren(byId("moves-list"), rows.length, rowNode);
  rows.forEach((row, i) => fill(nodes[i], row, history.roles));
}

function rowNode() {
  return element("li", "", ...["sign", "time", "who", "told"].map((name) => element("span", name)));
}

function fill(node, row, roles) {
  const [sign, time, who, told] = node.children;
  node.dataset.level = row.level;
  node.title = row.name ?? "";
  node.style.setProperty("--role", `var(${hueOf(roles, row.from_role)})`);
  setText(sign, MARKS[row.level]);
  sign.setAttribute("role", "img");
  sign.setAttribute("aria-label", LEVELS[row.level]);
  setText(time, row.when);
  setText(who, row.what);
  setText(told, row.told);
}
