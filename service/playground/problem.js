// What went wrong: a card with the error, beneath it the form for a key, on phones a strip that leads there.

import { byId, html } from "./dom.js";
import { flops, percent } from "./numbers.js";

/** Shows an error as the service described it, or hides the last one. */
export function showProblem(problem) {
  const box = byId("problem");
  if (!problem) {
    box.replaceChildren();
    return;
  }
  const code = problem.status ? `${problem.status} ${problem.code}` : problem.code;
  box.replaceChildren(
    html(
      "div",
      { class: "notice" },
      html("p", { class: "strong" }, `${problem.title} `, html("code", {}, code)),
      html("p", {}, problem.told),
    ),
  );
}

/** Why there is no answer, in a few words; empty where nothing is known to be wrong. */
export function reason(problem, wrong) {
  if (problem) return "None: the error says why.";
  return wrong ? `None: ${wrong} holds no number.` : "";
}

/** Calls `take` with each key that is entered. */
export function listenForKey(take) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("key").focus();
    take(byId("key").value.trim());
  });
}

/** Shows the form for an API key, ready to be filled in, or hides it once a key was taken. */
export function wantKey(wanted) {
  const form = byId("key-form");
  if (form.hidden !== wanted) return; // it is as it should be; nobody's focus is moved
  const within = form.contains(document.activeElement);
  form.hidden = !wanted;
  byId("key").value = "";
  if (wanted) byId("key").focus();
  else if (within) byId("answer").focus({ preventScroll: true });
}

/** Phones: what was last said, or why nothing can be, stays in sight while sliders move. */
export function showStrip(last, problem, wrong) {
  const strip = byId("strip");
  strip.hidden = !(last || problem || wrong);
  strip.classList.toggle("error", Boolean(problem || wrong));
  strip.setAttribute("href", problem ? "#problem" : wrong ? "#settings" : "#answer");
  strip.replaceChildren(html("span", {}, stripText(last, problem, wrong)));
}

function stripText(last, problem, wrong) {
  if (problem) return `${problem.title}: ${problem.told}`;
  if (wrong) return `${wrong}: not a number`;
  if (!last) return "";
  return `${last.label} ${percent(last.probability, 0)} · exit ${last.exit} · ${flops(last.flops)}`;
}
