// Which colours does a drawing use? Those of the style sheet, asked for once and forgotten when light and dark change.

const colors = new Map();
const patterns = new Map();

/** A colour of the style sheet. */
export function color(name) {
  if (!colors.has(name)) colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colors.get(name);
}

/** `share` of one colour over another, opaque, so that a stack's lower part covers the upper. */
export function mix(name, ground, share) {
  const parts = [color(name), color(ground)].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return `rgb(${parts[0].map((part, i) => Math.round(part * share + parts[1][i] * (1 - share))).join(",")})`;
}

/** Diagonal lines of one colour on another. */
export function hatch(ctx, name, ground) {
  const id = `${name} on ${ground}`;
  if (!patterns.has(id)) patterns.set(id, ctx.createPattern(hatchTile(name, ground), "repeat"));
  return patterns.get(id);
}

/** Forget every colour: the style sheet has changed. */
export function forgetColors() {
  colors.clear();
  patterns.clear();
}

function hatchTile(name, ground) {
  const side = 6 * Math.ceil(devicePixelRatio);
  const tile = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const ctx = tile.getContext("2d");
  ctx.fillStyle = color(ground);
  ctx.fillRect(0, 0, side, side);
  ctx.strokeStyle = color(name);
  ctx.lineWidth = side / 5;
  ctx.beginPath();
  for (const shift of [-side, 0, side]) {
    ctx.moveTo(shift - 1, side + 1);
    ctx.lineTo(shift + side + 1, -1);
  }
  ctx.stroke();
  return tile;
}
