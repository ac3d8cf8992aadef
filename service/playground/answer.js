// The answer in words, bars and a table.

import { byId, html, svg } from "./dom.js";
import { flops, milliseconds, percent } from "./numbers.js";

/** Shows what exits have said and, once it is there, the whole answer; `busy` until then. */
export function showAnswer(model, said, body, busy) {
  const last = said.at(-1);
  byId("answer").setAttribute("aria-busy", String(busy));
  byId("label").textContent = last?.label ?? "…";
  byId("confidence").textContent = last ? percent(last.probability) : "";
  byId("facts").replaceChildren(...(last ? facts(model, last, body) : []));
  byId("top").replaceChildren(...(last?.top ?? []).map(bar));
  byId("stream").replaceChildren(...said.map((one) => row(one, said, body)));
  byId("timing").replaceChildren(...(body ? timing(body.timing_ms) : []));
  const strip = byId("strip");
  strip.hidden = !last;
  strip.textContent = last
    ? `${last.label} ${percent(last.probability, 0)} · exit ${last.exit} · ${flops(last.flops)}`
    : "";
}

/** Tells a screen reader what was answered, once. */
export function announce({ label, probability, exit, exits, flops: spent }) {
  byId("announcement").textContent =
    `${label}, ${percent(probability, 0)}, exit ${exit} of ${exits}, ${flops(spent)} FLOPs`;
}

/** Shows an error as the service described it, or hides the last one. */
export function showProblem(problem) {
  const box = byId("problem");
  if (!problem) {
    box.replaceChildren();
    return;
  }
  const wait = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
  const code = problem.status ? `${problem.status} ${problem.code}` : problem.code;
  box.replaceChildren(
    html(
      "div",
      { class: "notice" },
      html("p", { class: "strong" }, `${problem.title} `, html("code", {}, code)),
      html("p", {}, problem.detail + wait),
    ),
  );
}

function facts(model, last, body) {
  const full = model.exits.at(-1).flops;
  const mean = body?.budget.mean;
  const pairs = [
    ["Left at", `exit ${last.exit} of ${last.exits}`],
    ["FLOPs spent", flops(last.flops)],
    ["Of full depth", percent(last.flops / full, 0)],
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
