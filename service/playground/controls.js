// What a request may cost: budget, limit and deadline, each with a switch, a slider and a field.

import { byId, html } from "./dom.js";
import { flops, headerNumber, milliseconds, parsed } from "./numbers.js";
import { fullDepth } from "./settings.js";

const STEPS = 200; // of a slider: fine enough to see, coarse enough for the arrow keys

const KINDS = [
  {
    name: "budget",
    header: "X-FLOP-Budget",
    title: "Mean budget",
    unit: flops,
    write: headerNumber,
    hint: "FLOPs per image on average: a hard image may cost more, an easy one less",
  },
  {
    name: "limit",
    header: "X-FLOP-Limit",
    title: "Limit",
    unit: flops,
    write: headerNumber,
    hint: "FLOPs that no image may exceed",
  },
  {
    name: "deadline",
    header: "X-Deadline-Ms",
    title: "Deadline",
    unit: milliseconds,
    write: (value) => String(Number(value.toPrecision(2))),
    hint: "milliseconds until the answer, from the deepest exit reached",
  },
];

/** Fills the list of tasks and models. */
export function offerModels(models) {
  const option = (value) => html("option", { value }, value);
  const tasks = [...new Set(models.map((model) => model.task))];
  byId("model").replaceChildren(
    html("optgroup", { label: "The best model of a task" }, ...tasks.map(option)),
    html("optgroup", { label: "One model" }, ...models.map((model) => option(model.name))),
  );
}

/** The three controls and what they say together. */
export class Controls {
  #controls;

  /** Builds them; `onChange` is called after every change by a user. */
  constructor(onChange) {
    this.#controls = KINDS.map((kind) => new Control(kind, onChange));
    byId("controls").append(...this.#controls.map((control) => control.element));
    this.#controls[0].on = true;
  }

  /** Fits ranges to models that may answer, and values to the first of them. */
  fit(models) {
    const [{ exits, default_budget: normal }] = models;
    const [budget, limit, deadline] = this.#controls;
    const least = Math.min(...models.map((model) => model.exits[0].flops));
    const most = Math.max(normal, ...models.map(fullDepth));
    budget.fit(least, most, normal);
    limit.fit(least, most, exits[Math.floor((exits.length - 1) / 2)].flops);
    deadline.fit(1, 1000, deadline.value ?? 50);
  }

  /** The request headers, or null while a field holds no number. */
  headers() {
    if (this.wrong()) return null;
    const inForce = this.#controls.filter((control) => control.on);
    return Object.fromEntries(inForce.map((control) => [control.kind.header, control.text]));
  }

  /** The title of the first one in force whose field holds no number, or null. */
  wrong() {
    return this.#controls.find((control) => control.on && control.value === null)?.kind.title ?? null;
  }

  /** The numbers in force by name; null for what is off. */
  values() {
    return Object.fromEntries(this.#controls.map(({ kind, on, value }) => [kind.name, on ? value : null]));
  }
}

class Control {
  constructor(kind, onChange) {
    this.kind = kind;
    const id = (part) => `${kind.name}-${part}`;
    this.#switch = html("input", { type: "checkbox", role: "switch", id: id("on") });
    this.#field = html("input", {
      id: id("value"),
      type: "text",
      autocomplete: "off",
      spellcheck: "false",
      autocapitalize: "none",
      "aria-label": `${kind.title}, value of ${kind.header}`,
      "aria-describedby": id("hint"),
    });
    this.#slider = html("input", {
      id: id("slider"),
      type: "range",
      min: 0,
      max: STEPS,
      "aria-label": kind.title,
      "aria-describedby": id("hint"),
    });
    this.#hint = html("span", {}, kind.hint);
    const hint = html(
      "p",
      { id: id("hint"), class: "quiet" },
      html("code", {}, kind.header),
      " ",
      this.#hint,
    );
    const label = html("label", { class: "switch" }, this.#switch, ` ${kind.title}`);
    const head = html("div", { class: "row" }, label, this.#field);
    this.element = html("div", { class: `control ${kind.name}` }, head, this.#slider, hint);
    this.#listen(onChange);
    this.#show();
  }

  #switch;
  #field;
  #slider;
  #hint;
  #low = 1;
  #high = 2;

  get on() {
    return this.#switch.checked;
  }

  set on(value) {
    this.#switch.checked = value;
    this.#show();
  }

  /** As it goes into the header. */
  get text() {
    return this.#field.value.trim();
  }

  get value() {
    return parsed(this.text);
  }

  fit(low, high, value) {
    [this.#low, this.#high] = [low, high > low ? high : low * 2];
    this.#field.value = this.kind.write(value);
    this.#follow();
  }

  #listen(onChange) {
    this.#switch.addEventListener("change", () => {
      this.#show();
      onChange();
    });
    // Whoever moves a slider or types a number wants it to hold.
    this.#slider.addEventListener("input", () => {
      const way = Number(this.#slider.value) / STEPS;
      this.#field.value = this.kind.write(this.#low * (this.#high / this.#low) ** way);
      this.on = true;
      onChange();
    });
    this.#field.addEventListener("input", () => {
      this.on = true;
      this.#follow();
      onChange();
    });
  }

  /** Moves the slider to the field's value. */
  #follow() {
    if (this.value !== null) {
      const way = Math.log(this.value / this.#low) / Math.log(this.#high / this.#low);
      this.#slider.value = Math.round(Math.min(1, Math.max(0, way)) * STEPS);
    }
    this.#show();
  }

  #show() {
    const wrong = this.on && this.value === null;
    this.element.classList.toggle("off", !this.on);
    this.#field.setAttribute("aria-invalid", wrong);
    this.#hint.classList.toggle("wrong", wrong);
    this.#hint.textContent = wrong ? "not a number such as 25000000, 2.5e7 or 25M" : this.kind.hint;
    const said = this.value === null ? "no number" : this.kind.unit(this.value);
    this.#slider.setAttribute("aria-valuetext", this.on ? said : `off, ${said}`);
  }
}
