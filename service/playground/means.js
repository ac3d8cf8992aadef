// What was spent on average with the settings as they are: a budget is a mean, and this shows it become one.

import { byId, svg } from "./dom.js";
import { counted, flops, percent } from "./numbers.js";
import { fullDepth } from "./settings.js";

const KEPT = 200; // settings whose sums are remembered

/** Sums of what this page was charged, by settings. */
export class Means {
  #sums = new Map();

  /** Adds images that were answered with the settings of a key. */
  add(key, images, spent) {
    const sum = this.#sums.get(key) ?? { images: 0, spent: 0 };
    this.#sums.delete(key); // the last one used comes last
    this.#sums.set(key, { images: sum.images + images, spent: sum.spent + spent });
    if (this.#sums.size > KEPT) this.#sums.delete(this.#sums.keys().next().value);
  }

  /** Shows the mean with the settings of a key, beside the budget, if they have one, and full depth. */
  show(key, budget, model) {
    const { images, spent } = this.#sums.get(key) ?? { images: 0, spent: 0 };
    const mean = images ? spent / images : 0;
    const share = (value) => Math.min(1, value / fullDepth(model));
    byId("means").replaceChildren(drawn(share(mean), budget && share(budget)));
    byId("means-text").textContent = images
      ? told(images, mean, budget)
      : "No image was answered with these settings yet.";
  }
}

function drawn(mean, budget) {
  return svg(
    "svg",
    { viewBox: "0 0 1000 24", preserveAspectRatio: "none", height: 24, "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 6, width: 1000, height: 12 }),
    svg("rect", { class: "spent", x: 0, y: 6, width: mean * 1000, height: 12 }),
    ...(budget
      ? [svg("rect", { class: "mark-bar budget", x: budget * 997, y: 0, width: 3, height: 24 })]
      : []),
  );
}

function told(images, mean, budget) {
  const spent = `${counted(images, "image")} with these settings spent ${flops(mean)} FLOPs on average`;
  if (!budget) return `${spent}. There is no mean budget.`;
  const share = `, ${percent(mean / budget, 0)} of the ${flops(budget)} allowed.`;
  const over = mean > budget ? " A few images may be above; over thousands the mean is held." : "";
  return spent + share + over;
}
