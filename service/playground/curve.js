// Accuracy against FLOPs: what a mean budget buys, what each exit alone has, and where the settings are.

import { svg } from "./dom.js";
import { flops, percent, ticks } from "./numbers.js";
import { bought } from "./settings.js";

const HEIGHT = 280;
const FRAME = { left: 46, right: 14, top: 26, bottom: 42 };

/**
 * Draws the curves of a model and of others of its task.
 * @param {number} width in pixels
 * @param {object} model the one that is shown
 * @param {object[]} others of the same task
 * @param {{marks: object[], landing: object|null, spent: number|null}} settings of the request
 */
export function drawCurve(width, model, others, settings) {
  const { x, y, grid } = scales(width, [model, ...others], settings.spent ?? 0);
  return svg(
    "svg",
    {
      width,
      height: HEIGHT,
      viewBox: `0 0 ${width} ${HEIGHT}`,
      role: "img",
      "aria-label": told(model, settings),
    },
    ...grid,
    ...others.map((other) => policy(other, x, y, "other")),
    ...settings.marks.map((mark) =>
      svg("path", {
        class: `mark ${mark.name}`,
        d: `M${x(mark.flops)} ${FRAME.top}V${HEIGHT - FRAME.bottom}`,
      }),
    ),
    alone(model, x, y),
    policy(model, x, y, "policy"),
    ...model.exits.map((exit) => numbered(exit, x, y)),
    ...spentMark(settings.spent, x),
    ...landed(settings.landing, { x, y }, width),
  );
}

function told(model, { landing }) {
  const first = bought(model, Infinity) ?? model.exits.at(-1);
  const [cheapest] = model.exits;
  const here = landing ? ` Here: ${percent(landing.accuracy)} for ${flops(landing.flops)}.` : "";
  return (
    `Accuracy of ${model.name} from ${percent(cheapest.accuracy)} for ${flops(cheapest.flops)} FLOPs` +
    ` to ${percent(first.accuracy)} under a mean budget.${here}`
  );
}

function scales(width, shown, spent) {
  const costs = shown.flatMap((model) => model.exits.map((exit) => exit.flops));
  const [low, high] = [Math.min(...costs) * 0.9, Math.max(spent, ...costs) * 1.04];
  const accuracies = shown.flatMap((model) =>
    [...model.exits, ...model.curve].map((point) => point.accuracy),
  );
  const spread = Math.max(0.004, Math.max(...accuracies) - Math.min(...accuracies));
  const [bottom, top] = [Math.min(...accuracies) - spread * 0.12, Math.max(...accuracies) + spread * 0.22];
  const clamp = (value) => Math.min(high, Math.max(low, value));
  const x = (value) =>
    FRAME.left + ((clamp(value) - low) / (high - low)) * (width - FRAME.left - FRAME.right);
  const y = (value) => FRAME.top + ((top - value) / (top - bottom)) * (HEIGHT - FRAME.top - FRAME.bottom);
  const grid = [
    ...ticks(bottom * 100, top * 100, 5).flatMap((tick) => [
      svg("path", { class: "grid", d: `M${FRAME.left} ${y(tick / 100)}H${width - FRAME.right}` }),
      svg(
        "text",
        { class: "tick end", x: FRAME.left - 8, y: y(tick / 100) + 4 },
        `${Number(tick.toFixed(2))}`,
      ),
    ]),
    ...ticks(low, high, Math.max(3, Math.floor(width / 80))).map((tick) =>
      svg("text", { class: "tick middle", x: x(tick), y: HEIGHT - FRAME.bottom + 18 }, flops(tick)),
    ),
    svg("text", { class: "axis", x: FRAME.left, y: HEIGHT - 6 }, "FLOPs per image"),
    svg("text", { class: "axis", x: 0, y: 11 }, "% right (validated)"),
  ];
  return { x, y, grid };
}

const way = (points, x, y) =>
  points
    .map(([cost, accuracy], n) => `${n ? "L" : "M"}${x(cost).toFixed(1)} ${y(accuracy).toFixed(1)}`)
    .join("");

function policy(model, x, y, name) {
  const points = model.curve.map((point) => [point.mean_flops, point.accuracy]);
  return svg("path", { class: `curve ${name}`, d: way(points, x, y) });
}

function alone(model, x, y) {
  return svg("path", {
    class: "curve alone",
    d: way(
      model.exits.map((exit) => [exit.flops, exit.accuracy]),
      x,
      y,
    ),
  });
}

function numbered(exit, x, y) {
  const [cx, cy] = [x(exit.flops), y(exit.accuracy)];
  return svg(
    "g",
    { class: "numbered" },
    svg("circle", { cx, cy, r: 8 }),
    svg("text", { class: "middle", x: cx, y: cy + 3.5 }, String(exit.exit)),
  );
}

function spentMark(spent, x) {
  if (spent === null) return [];
  const [at, foot] = [x(spent), HEIGHT - FRAME.bottom];
  return [svg("path", { class: "spent-mark", d: `M${at} ${foot - 9}l6 9h-12z` })];
}

function landed(landing, scale, width) {
  if (!landing) return [];
  const [cx, cy] = [scale.x(landing.flops), scale.y(landing.accuracy)];
  const text = `${percent(landing.accuracy)} for ${flops(landing.flops)}`;
  const left = cx + text.length * 7.4 + 12 > width;
  const name = { class: `landing-name${left ? " end" : ""}`, x: cx + (left ? -10 : 10) };
  // There is room above the curve of budgets, and below that of the exits.
  const y = cy + (landing.by === "limit" ? 24 : -14);
  return [svg("circle", { class: `landing ${landing.by}`, cx, cy, r: 6 }), svg("text", { ...name, y }, text)];
}
