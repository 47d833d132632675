// How is something that happened at one moment drawn over a chart? A thin line, and at its foot a wedge: pointing up where
// replicas came, down where they left.

import { color } from "./colors.js";

const WEDGE = 5; // half its width, in pixels of the page

/** Every mark {at, up, hue} that lies in the time shown. */
export function paintMarks(plot, marks) {
  const { ctx, bbox } = plot;
  const { min, max } = plot.scales.x;
  ctx.save();
  for (const mark of marks) if (mark.at >= min && mark.at <= max) paint(ctx, bbox, plot.valToPos(mark.at, "x", true), mark);
  ctx.restore();
}

function paint(ctx, bbox, x, mark) {
  const size = WEDGE * devicePixelRatio;
  const foot = bbox.top + bbox.height;
  const [tip, base] = mark.up ? [foot - 2 * size, foot] : [foot, foot - 2 * size];
  ctx.strokeStyle = ctx.fillStyle = color(mark.hue);
  ctx.lineWidth = devicePixelRatio;
  ctx.globalAlpha = 0.45;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, foot - 2 * size);
  ctx.stroke();
  ctx.globalAlpha = 1;
  ctx.beginPath();
  ctx.moveTo(x - size, base);
  ctx.lineTo(x + size, base);
  ctx.lineTo(x, tip);
  ctx.fill();
}
