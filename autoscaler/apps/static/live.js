// How does the page follow its fleet? Fetch what was, then take every frame as it comes, and draw at most ten times a
// second, however fast the ticks are.

import { forgetColors } from "./colors.js";
import { Decisions } from "./decisions.js";
import { byId, element, setText } from "./dom.js";
import { showDoor } from "./door.js";
import { moment } from "./format.js";
import { showHeader } from "./header.js";
import { History } from "./history.js";
import { showMoves } from "./moves.js";
import { Panels } from "./panels.js";

const DRAW_MS = 100;
const RETRY_MS = 2000;
const FLEETS_MS = 30000;
const SPANS = [["15 min", 900], ["1 h", 3600], ["6 h", 21600], ["All", Infinity]];

const page = {
  history: new History(),
  decisions: new Decisions(),
  panels: new Panels(byId("fleet-charts"), byId("roles"), showCursor),
  fleet: null,
  stream: null,
  span_s: Infinity,
  turn: 0, // how often the page has begun to follow: an answer to an earlier turn is late and ignored
  drawnAt: 0,
  heardAt: 0,
  usual_ms: null, // usual time between two frames, as heard here
};
page.decisions.changed = askToDraw;

/** Load a fleet's past and follow it from there. */
async function follow(fleet) {
  const turn = (page.turn += 1);
  page.stream?.close();
  page.fleet = fleet;
  page.history = new History();
  page.decisions.forget();
  page.panels.forget();
  page.usual_ms = null;
  const frames = await ask(`/api/history?fleet=${encodeURIComponent(fleet)}`);
  if (page.turn !== turn) return;
  for (const frame of frames) take(frame, false);
  page.heardAt = performance.now();
  listen(fleet, frames.at(-1).id);
  askToDraw();
}

function listen(fleet, after) {
  const stream = new EventSource(`/events?fleet=${encodeURIComponent(fleet)}&after=${encodeURIComponent(after)}`);
  page.stream = stream;
  stream.onopen = () => showLink("live", "live");
  stream.onmessage = (event) => {
    hear();
    take(JSON.parse(event.data), true);
    askToDraw();
  };
  stream.addEventListener("reset", () => begin()); // the controller was started anew: so is the page
  stream.onerror = () => {
    if (page.stream !== stream) return;
    showLost();
    if (stream.readyState === EventSource.CLOSED) setTimeout(begin, RETRY_MS);
  };
}

function take(frame, live) {
  if (page.history.add(frame)) page.decisions.add(frame, live);
}

function hear() {
  const now = performance.now();
  const gap_ms = now - page.heardAt;
  page.usual_ms = page.usual_ms === null ? gap_ms : page.usual_ms * 0.8 + gap_ms * 0.2;
  page.heardAt = now;
  showLink("live", "live");
}

let asked = false;
function askToDraw() {
  if (asked) return;
  asked = true;
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, page.drawnAt + DRAW_MS - performance.now()));
}

function draw() {
  asked = false;
  page.drawnAt = performance.now();
  if (!page.history.latest) return;
  showHeader(page.history.latest, page.history);
  page.panels.draw(page.history, page.span_s);
  showDoor(page.history);
  showMoves(page.history);
  page.decisions.draw(page.history);
}

/** Start, or start again: wait for a first fleet, then follow it, or the one that was followed before. */
async function begin() {
  page.stream?.close();
  try {
    const keys = showFleets(await ask("/api/state"));
    if (keys.length) return await follow(keys.includes(page.fleet) ? page.fleet : keys[0]);
    showLink("wait", "waiting for the first tick");
  } catch {
    showLost();
  }
  return setTimeout(begin, RETRY_MS);
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** Fill the picker; a fleet that holds or fails is marked in words. Returns the fleets' keys. */
function showFleets(state) {
  const keys = Object.keys(state);
  const select = byId("fleets");
  const options = keys.map((key) => {
    const blind = state[key].status.conditions.some((one) => one.type === "ScalingActive" && !one.status);
    return Object.assign(element("option", "", blind ? `${key} (holding)` : key), { value: key });
  });
  const text = (list) => [...list].map((one) => one.textContent).join("\n");
  if (text(options) !== text(select.options)) select.replaceChildren(...options); // else leave it alone: it may be open
  select.value = page.fleet ?? keys[0] ?? "";
  byId("picker").hidden = keys.length < 2;
  byId("fleet").hidden = keys.length > 1;
  return keys;
}

function showLink(state, text) {
  const link = byId("link");
  link.dataset.state = state;
  setText(link, text);
}

/** A run that has ended takes its server along; the page stays and waits for the next one. */
function showLost() {
  if (page.history.latest?.ended) showLink("wait", "ended");
  else showLink("lost", "connection lost, trying again");
}

/** Ticks that stop coming are a signal of their own, even while the connection stands. */
function watchSilence() {
  const silent_ms = performance.now() - page.heardAt;
  const link = byId("link");
  if (link.dataset.state === "lost" || !page.stream || page.history.latest?.ended) return;
  if (page.usual_ms !== null && silent_ms > Math.max(10000, 4 * page.usual_ms)) {
    showLink("late", `no tick for ${Math.round(silent_ms / 1000)} s`);
  }
}

function showCursor(now) {
  setText(byId("cursor"), now === null ? "" : moment(now));
}

function offerSpans() {
  const buttons = SPANS.map(([name, span_s]) => {
    const button = Object.assign(element("button", "", name), { type: "button" });
    button.setAttribute("aria-pressed", String(span_s === page.span_s));
    button.addEventListener("click", () => {
      page.span_s = span_s;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      askToDraw();
    });
    return button;
  });
  byId("spans").append(...buttons);
}

byId("fleets").addEventListener("change", (event) => follow(event.target.value).catch(begin));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  forgetColors();
  page.panels.repaint();
});
setInterval(watchSilence, 1000);
setInterval(() => ask("/api/state").then(showFleets).catch(() => {}), FLEETS_MS);
offerSpans();
begin();
