// The samples: test images of the data sets; easy ones leave early, hard ones go deep.

import { byId, html } from "./dom.js";
import { flops, percent } from "./numbers.js";
import { ownFile, sample } from "./service.js";

/** The row of samples. */
export class Samples {
  #all = [];
  #shown = [];
  #blobs = new Map();
  #turn = 0; // counts images: one that is still being fetched gives way to the next

  /**
   * `onPick` is called with the sample that a user picks, `onProblem` with the error where it cannot be
   * fetched, `onAll` when all are to be asked.
   */
  constructor(onPick, onAll, onProblem) {
    Object.assign(this, { onPick, onProblem });
    const button = byId("all");
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(!this.allWanted));
      if (this.allWanted) onAll();
      else this.clear();
    });
  }

  /** Whether all samples are asked after each change. */
  get allWanted() {
    return byId("all").getAttribute("aria-pressed") === "true";
  }

  /** Loads the list. */
  async load() {
    this.#all = await ownFile("samples/samples.json");
  }

  /** Shows the samples of a task, or all where it has none; returns the first. */
  show(task) {
    const own = this.#all.filter((entry) => entry.task === task);
    this.#shown = own.length ? own : this.#all.slice(0, 12);
    byId("samples").replaceChildren(...this.#shown.map((entry, n) => this.#button(entry, n)));
    byId("all").textContent = `Ask all ${this.#shown.length} at once`;
    this.clear();
    return this.#shown[0];
  }

  /** Fetches a sample and hands it on, unless another image is picked meanwhile. */
  async pick(entry) {
    this.#turn += 1;
    const turn = this.#turn;
    try {
      const image = await this.image(entry);
      if (turn === this.#turn) this.onPick(image);
    } catch (error) {
      if (turn === this.#turn) this.onProblem(error);
    }
  }

  /** A sample as an image to ask about. */
  async image(entry) {
    if (!this.#blobs.has(entry.file)) this.#blobs.set(entry.file, await sample(entry.file));
    return { blob: this.#blobs.get(entry.file), file: entry.file, sample: true, truth: entry.label };
  }

  /** All that are shown, as images. */
  images() {
    return Promise.all(this.#shown.map((entry) => this.image(entry)));
  }

  /** Marks the one that is asked about; none for a user's own image. No other is waited for any longer. */
  mark(file) {
    this.#turn += 1;
    for (const button of byId("samples").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.file === file));
    }
  }

  /** Shows beneath each sample at which exit it left, and what all spent; returns how many were answered. */
  showAll(body) {
    const buttons = [...byId("samples").querySelectorAll("button")];
    body.predictions.forEach((one, n) => this.#result(buttons[n], this.#shown[n], one));
    const answered = body.predictions.filter((one) => !one.error);
    const right = body.predictions.filter((one, n) => one.label === this.#shown[n].label).length;
    const mean = body.flops / Math.max(1, answered.length);
    const allowed = body.budget.mean
      ? ` of ${flops(body.budget.mean)} allowed (${percent(mean / body.budget.mean, 0)})`
      : "";
    byId("all-result").textContent =
      `${answered.length} images in one request: ${right} right, mean ${flops(mean)} FLOPs${allowed}.`;
    return answered.length;
  }

  /** Forgets what was said about all; says why, where there is a reason. */
  clear(reason = "") {
    for (const badge of byId("samples").querySelectorAll(".badge")) badge.replaceChildren();
    byId("all-result").textContent = reason;
  }

  #button(entry, n) {
    const picture = html("img", { src: `playground/samples/${entry.file}`, alt: "", width: 56, height: 56 });
    const button = html(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        "aria-label": `Sample ${n + 1}: ${entry.label}`,
        title: entry.label,
        "data-file": entry.file,
      },
      picture,
      html("span", { class: "badge" }),
    );
    button.addEventListener("click", () => this.pick(entry));
    return html("li", {}, button);
  }

  #result(button, entry, one) {
    const badge = button.querySelector(".badge");
    if (one.error) {
      badge.replaceChildren("–");
      return;
    }
    const right = one.label === entry.label;
    badge.className = `badge ${right ? "right" : "wrong"}`;
    badge.replaceChildren(`exit ${one.exit}${right ? "✓" : "✗"}`);
    button.title = `${entry.label}: ${one.label}, ${percent(one.probability)}, exit ${one.exit}`;
  }
}
