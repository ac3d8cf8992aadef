// The network as a road with exits: blocks as wide as their FLOPs, so that the road is a ruler as well.

import { svg } from "./dom.js";
import { counted, flops, percent, ticks } from "./numbers.js";

const SIDE = 14;
const ROAD = { top: 104, height: 34 };
const NODE = 54;
const RULER = 152;

/**
 * Draws a model and what is known of one image's way.
 * @param {number} width in pixels
 * @param {object} model as /models describes it
 * @param {{said: object[], done: boolean, marks: {name: string, text: string, flops: number}[]}} way
 */
export function drawNetwork(width, model, way) {
  const { said, done, marks } = way;
  const end = Math.max(model.exits.at(-1).dense_flops, said.at(-1)?.flops ?? 0) * 1.03;
  const x = (value) => SIDE + (Math.min(value, end) / end) * (width - 2 * SIDE);
  const height = RULER + 38 + 20 * marks.length;
  const reached = said.at(-1)?.exit ?? 0;
  return svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told(model, way) },
    ...marks.map((mark) => line(mark, x)),
    ...model.exits.map((exit, k) => block(exit, k, model, x, exit.exit <= reached)),
    ...model.exits.flatMap((exit) => ramp(exit, x, state(exit, said, done))),
    ...nodes(model, x, said, done),
    ...ruler(end, x, said.at(-1)?.flops ?? 0, width),
    ...marks.map((mark, n) => named(mark, n, x, width, end)),
  );
}

function told(model, { said, done }) {
  const network = `${model.name}: ${counted(model.exits.length, "exit")}`;
  const last = said.at(-1);
  if (!last) return `${network}; no image has gone through yet`;
  const spoke = said
    .map((one) => `exit ${one.exit} says ${one.label}, ${percent(one.probability, 0)}`)
    .join("; ");
  return `${network}. ${spoke}. ${done ? `Left at exit ${last.exit} after ${flops(last.flops)} FLOPs.` : ""}`;
}

/** What an exit has to do with the image. */
function state(exit, said, done) {
  const last = said.at(-1)?.exit ?? 0;
  if (exit.exit === last) return done ? "answered" : "spoke";
  if (said.some((one) => one.exit === exit.exit)) return "spoke";
  return exit.exit < last ? "passed" : "ahead";
}

function block(exit, k, model, x, ran) {
  const from = x(k ? model.exits[k - 1].flops : 0) + (k ? 1.5 : 0);
  const room = x(exit.flops) - 1.5 - from;
  const middle = from + room / 2;
  return svg(
    "g",
    { class: ran ? "block ran" : "block" },
    svg("rect", { x: from, y: ROAD.top, width: Math.max(1, room), height: ROAD.height, rx: 5 }),
    room > 58
      ? svg("text", { x: middle, y: ROAD.top + 22, class: "middle" }, `block ${exit.exit}`)
      : svg("path", { class: "lane", d: `M${from + 5} ${ROAD.top + ROAD.height / 2}H${from + room - 5}` }),
  );
}

function ramp(exit, x, how) {
  const at = x(exit.flops);
  const d = `M${at - 12} ${ROAD.top}C${at - 2} ${ROAD.top - 4} ${at} ${ROAD.top - 12} ${at} ${NODE}`;
  return [svg("path", { class: `ramp ${how}`, d })];
}

/** The exits, with as much text as there is room for. */
function nodes(model, x, said, done) {
  const places = model.exits.map((exit) => x(exit.flops));
  const gaps = places.slice(1).map((place, k) => place - places[k]);
  const room = Math.min(110, ...gaps);
  const radius = Math.max(6, Math.min(16, room * 0.42));
  return model.exits.map((exit, k) => {
    const one = said.find(({ exit: number }) => number === exit.exit);
    const how = state(exit, said, done);
    const group = svg("g", { class: `exit ${how}${one && one === said.at(-1) ? " fresh" : ""}` });
    group.append(svg("circle", { cx: places[k], cy: NODE, r: radius }));
    if (one) group.append(gauge(places[k], radius, one.probability));
    if (radius > 8)
      group.append(svg("text", { x: places[k], y: NODE + 4.5, class: "middle" }, String(exit.exit)));
    if (one) group.append(...words(one, places[k], NODE - radius, one === said.at(-1) ? Infinity : room));
    return group;
  });
}

/** What an exit says, above it; the last one has said so wherever the others find no room. */
function words(one, x, y, room) {
  const fits = Math.min(18, Math.floor(room / 7.5));
  const label = one.label.length > fits ? `${one.label.slice(0, fits - 1)}…` : one.label;
  return [
    ...(room >= 40 ? [svg("text", { x, y: y - 8, class: "middle says" }, percent(one.probability, 0))] : []),
    ...(room >= 64 ? [svg("text", { x, y: y - 24, class: "middle label" }, label)] : []),
  ];
}

/** The ring that shows a confidence. */
function gauge(cx, radius, share) {
  const r = radius - 1.5;
  const length = 2 * Math.PI * r;
  const dashes = `${share * length} ${length}`;
  const turn = `rotate(-90 ${cx} ${NODE})`;
  return svg("circle", { class: "gauge", cx, cy: NODE, r, "stroke-dasharray": dashes, transform: turn });
}

function ruler(end, x, spent, width) {
  const steps = ticks(0, end, Math.max(3, Math.floor(width / 75)));
  return [
    svg("rect", { class: "track", x: x(0), y: RULER, width: x(end) - x(0), height: 6, rx: 3 }),
    svg("rect", { class: "spent", x: x(0), y: RULER, width: x(spent) - x(0), height: 6, rx: 3 }),
    ...steps.map((step) =>
      svg(
        "text",
        {
          x: x(step),
          y: RULER + 24,
          class: step ? "middle tick" : "tick",
        },
        step ? flops(step) : "0",
      ),
    ),
  ];
}

function line(mark, x) {
  return svg("path", { class: `mark ${mark.name}`, d: `M${x(mark.flops)} ${ROAD.top - 8}V${RULER + 10}` });
}

function named(mark, n, x, width, end) {
  const text = mark.flops > end ? `${mark.text} →` : mark.text;
  const half = text.length * 4; // pixels; about what the letters take
  const at = Math.min(Math.max(x(mark.flops), half + 4), width - half - 4);
  return svg("text", { x: at, y: RULER + 46 + 20 * n, class: `middle mark-name ${mark.name}` }, text);
}
