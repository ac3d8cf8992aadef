// The network as a road with exits: blocks as wide as their FLOPs, so that the road is a ruler as well.

import { svg } from "./dom.js";
import { counted, flops, percent, ticks } from "./numbers.js";
import { fullDepth } from "./settings.js";

const SIDE = 18;
const ROAD = { top: 104, height: 34 };
const NODE = 54;
const RULER = 152;
const LETTER = 7.5; // pixels; about what one takes
const GAP = 6; // between the words of two exits

/**
 * Draws a model and what is known of one image's way.
 * @param {number} width in pixels
 * @param {object} model as /models describes it
 * @param {{said: object[], done: boolean, marks: {name: string, text: string, flops: number}[]}} way
 */
export function drawNetwork(width, model, way) {
  const { said, done, marks } = way;
  const end = fullDepth(model);
  const x = (value) => SIDE + (Math.min(value, end) / end) * (width - 2 * SIDE);
  const height = RULER + 38 + 20 * marks.length;
  const reached = said.at(-1)?.exit ?? 0;
  return svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told(model, way) },
    ...marks.map((mark) => line(mark, x)),
    ...blocks(model, x, reached),
    ...model.exits.flatMap((exit) => ramp(exit, x, state(exit, said, done))),
    ...nodes(model, x, said, done, width),
    ...ruler(end, x, said.at(-1)?.flops ?? 0, width),
    ...marks.map((mark, n) => named(mark, n, x, width, end)),
  );
}

/** A line about what is drawn. */
export const caption = (model) =>
  `${model.name}: ${counted(model.exits.length, "exit")}, ${flops(fullDepth(model))} FLOPs at full depth, ` +
  "with every exit asked on the way. Blocks are as wide as they are expensive, " +
  "rings as long as exits are sure; dashed exits were not asked.";

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

/** The blocks, all named or, where that does not fit into the smallest, all numbered. */
function blocks(model, x, reached) {
  const spans = model.exits.map((exit, k) => {
    const from = x(k ? model.exits[k - 1].flops : 0) + (k ? 1.5 : 0);
    return { exit: exit.exit, from, room: Math.max(1, x(exit.flops) - 1.5 - from) };
  });
  const narrowest = Math.min(...spans.map(({ room }) => room));
  return spans.map(({ exit, from, room }) =>
    svg(
      "g",
      { class: exit <= reached ? "block ran" : "block" },
      svg("rect", { x: from, y: ROAD.top, width: room, height: ROAD.height, rx: Math.min(5, room / 2) }),
      ...(room < 8 * String(exit).length + 4
        ? []
        : [
            svg(
              "text",
              { x: from + room / 2, y: ROAD.top + 22, class: "middle" },
              narrowest < 56 ? String(exit) : `block ${exit}`,
            ),
          ]),
    ),
  );
}

function ramp(exit, x, how) {
  const at = x(exit.flops);
  const d = `M${at - 12} ${ROAD.top}C${at - 2} ${ROAD.top - 4} ${at} ${ROAD.top - 12} ${at} ${NODE}`;
  return [svg("path", { class: `ramp ${how}`, d })];
}

/** The exits, with as much text as there is room for. */
function nodes(model, x, said, done, width) {
  const places = model.exits.map((exit) => x(exit.flops));
  const gaps = places.slice(1).map((place, k) => place - places[k]);
  const radius = Math.max(6, Math.min(16, Math.min(110, ...gaps) * 0.42));
  const known = said.filter(({ exit }) => exit <= places.length); // it may be another model that speaks
  const told = words(known, (one) => places[one.exit - 1], NODE - radius, width);
  return model.exits.map((exit, k) => {
    const one = said.find(({ exit: number }) => number === exit.exit);
    const how = state(exit, said, done);
    const group = svg("g", { class: `exit ${how}${one && one === said.at(-1) ? " fresh" : ""}` });
    group.append(svg("circle", { cx: places[k], cy: NODE, r: radius }));
    if (one) group.append(gauge(places[k], radius, one.probability));
    if (radius > 8)
      group.append(svg("text", { x: places[k], y: NODE + 4.5, class: "middle" }, String(exit.exit)));
    if (one) group.append(...told.get(one));
    return group;
  });
}

/** What exits say, above them: the last one in any case, those before it as far as they find room. */
function words(said, place, y, width) {
  const told = new Map();
  let edge = width; // where what is said to the right begins
  for (const [k, one] of [...said.entries()].reverse()) {
    const last = k === said.length - 1;
    const before = k ? (place(one) - place(said[k - 1])) / 2 : place(one);
    const room = last ? Infinity : 2 * Math.min(before, edge - place(one)) - GAP;
    const fits = Math.min(18, Math.floor(room / LETTER));
    const label = one.label.length > fits ? `${one.label.slice(0, Math.max(0, fits - 1))}…` : one.label;
    const [share, half] = [percent(one.probability, 0), (label.length * LETTER) / 2];
    const named = last || label === one.label || fits > 5;
    const at = last ? Math.min(Math.max(place(one), half), width - half) : place(one);
    edge = at - Math.max(named ? half : 0, (share.length * LETTER) / 2);
    const line = (name, up, text) => svg("text", { x: at, y: y - up, class: `middle ${name}` }, text);
    told.set(one, [
      ...(room >= share.length * LETTER ? [line("says", 8, share)] : []),
      ...(named ? [line("label", 24, label)] : []),
    ]);
  }
  return told;
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
          x: Math.min(x(step), width - 20),
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
