// The answer in words, bars and a table.

import { byId, html, svg } from "./dom.js";
import { flops, milliseconds, percent } from "./numbers.js";
import { fullDepth } from "./settings.js";

/**
 * Shows what exits have said and, once it is there, the whole answer; `busy` until then.
 * Where nothing was said and `why` tells the reason, the card shrinks to that, until something is said again.
 */
export function showAnswer(model, said, body, busy, why) {
  const last = said.at(-1);
  const card = byId("answer");
  if (last) card.classList.remove("none");
  else if (why) card.classList.add("none");
  byId("no-answer").textContent = why || "…";
  card.setAttribute("aria-busy", String(busy));
  byId("label").textContent = last?.label ?? "…";
  byId("confidence").textContent = last ? percent(last.probability) : "";
  byId("facts").replaceChildren(...(last ? facts(model, last, body) : []));
  byId("top").replaceChildren(...(last?.top ?? []).map(bar));
  byId("stream").replaceChildren(...said.map((one) => row(one, said, body)));
  byId("timing").replaceChildren(...(body ? timing(body.timing_ms) : []));
}

/** Tells a screen reader what was answered, once. */
export function announce({ label, probability, exit, exits, flops: spent }) {
  byId("announcement").textContent =
    `${label}, ${percent(probability, 0)}, exit ${exit} of ${exits}, ${flops(spent)} FLOPs`;
}

function facts(model, last, body) {
  const mean = body?.budget.mean;
  const pairs = [
    ["Left at", `exit ${last.exit} of ${last.exits}`],
    ["FLOPs spent", flops(last.flops)],
    ["Of full depth", percent(last.flops / fullDepth(model), 0)],
    ["Of the budget", mean ? percent(last.flops / mean, 0) : null],
    ["Took", body ? milliseconds(body.timing_ms.total) : null],
    ["Model", body ? `${body.model}@${body.version}` : null],
    ["Degraded", last.degraded ? "yes: the server is busy" : null],
  ];
  return pairs
    .filter(([, value]) => value)
    .map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value)));
}

function bar({ label, probability }) {
  return html(
    "li",
    {},
    html("span", { class: "name" }, label),
    html("meter", { min: 0, max: 1, value: probability, "aria-label": label }, ""),
    html("span", { class: "share" }, percent(probability)),
  );
}

function row(one, said, body) {
  const answered = body && one === said.at(-1);
  const after = one.elapsed_ms ?? body?.timing_ms.total;
  return html(
    "tr",
    { class: answered ? "answered" : "" },
    html("th", { scope: "row" }, String(one.exit)),
    html("td", { class: "name" }, one.label),
    html(
      "td",
      {},
      html("meter", { min: 0, max: 1, value: one.probability, "aria-hidden": "true" }, ""),
      ` ${percent(one.probability)}`,
    ),
    html("td", {}, flops(one.flops)),
    html("td", {}, after === undefined ? "" : milliseconds(after)),
  );
}

/** A bar of the parts of the total, and the parts by name. */
function timing({ decode, queue, compute, total }) {
  const parts = { decode, queue, compute, other: Math.max(0, total - decode - queue - compute) };
  const whole = Object.values(parts).reduce((sum, part) => sum + part, 0) || 1;
  let at = 0;
  const rects = Object.entries(parts).map(([name, part]) => {
    const rect = svg("rect", { class: name, x: at, y: 0, width: (part / whole) * 100, height: 10 });
    at += (part / whole) * 100;
    return rect;
  });
  const names = Object.entries(parts).map(([name, part]) =>
    html("li", { class: name }, `${name} ${milliseconds(part)}`),
  );
  return [
    svg(
      "svg",
      { viewBox: "0 0 100 10", preserveAspectRatio: "none", height: 10, "aria-hidden": "true" },
      ...rects,
    ),
    html(
      "ul",
      { class: "legend" },
      ...names,
      html("li", { class: "strong" }, `total ${milliseconds(total)}`),
    ),
  ];
}
