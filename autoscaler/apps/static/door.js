// Whom do the sidecars turn away, and is that right? The mode in a sentence, then every kind of verdict that is given now, those
// against a request first. Nothing of it where no sidecar stands before the fleet.

import { byId, element, keepChildren, setText } from "./dom.js";
import { doorStory, verdictRow } from "./format.js";

const CELLS = ["rate", "verdict", "reason", "class"];

/** Fill the panel from the newest frame. */
export function showDoor(history) {
  const { status } = history.latest;
  byId("door").hidden = !status.door;
  if (!status.door) return;
  setText(byId("door-story"), doorStory(status).join(" "));
  const { verdicts, mode } = status.door;
  const nodes = keepChildren(byId("door-list"), verdicts.length, () =>
    element("li", "", ...CELLS.map((name) => element("span", name))));
  verdicts.forEach((one, i) => {
    nodes[i].dataset.level = one.admit ? "good" : mode === "enforce" ? "bad" : "warn";
    verdictRow(one, mode).forEach((text, cell) => setText(nodes[i].children[cell], text));
  });
}
