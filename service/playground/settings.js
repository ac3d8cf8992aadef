// What the settings mean for a model: the mean in force, marks in drawings, where on the curve they lead.

import { flops } from "./numbers.js";

/** What full depth costs: the last exit, with the heads of all that may be asked on the way. */
export const fullDepth = (model) => model.exits.at(-1).dense_flops;

/** The mean in force: the budget's, or the model's own where nothing is asked for; else null. */
export function meanInForce({ budget, limit, deadline }, model) {
  return budget ?? (limit === null && deadline === null ? model.default_budget : null);
}

/** The marks of budget and limit in drawings. */
export function marks(values, model) {
  const mean = meanInForce(values, model);
  const kind = values.budget === null ? "default budget" : "budget";
  return [
    ...(mean === null ? [] : [{ name: "budget", text: `${kind} ${flops(mean)}`, flops: mean }]),
    ...(values.limit === null
      ? []
      : [{ name: "limit", text: `limit ${flops(values.limit)}`, flops: values.limit }]),
  ];
}

/**
 * Where on the curves the settings lead: the best of the models that may answer. Null where that is not known
 * beforehand: with a deadline, with budget and limit together, and for a stream under a limit, whose exits on
 * the way cost as well.
 */
export function landing(values, models, live) {
  const [mean, { limit, deadline }] = [meanInForce(values, models[0]), values];
  if (mean !== null) return limit === null ? best(models.map((model) => bought(model, mean))) : null;
  if (limit === null || deadline !== null || live) return null;
  const fitting = models.flatMap((model) => model.exits).filter((exit) => exit.flops <= limit);
  return best(fitting.map((exit) => ({ flops: exit.flops, accuracy: exit.accuracy, by: "limit" })));
}

/** The point of a model's curve that a mean budget buys, or null below the cheapest exit. */
export function bought(model, mean) {
  const point = model.curve.filter((candidate) => candidate.mean_flops <= mean).at(-1);
  return point ? { flops: point.mean_flops, accuracy: point.accuracy, by: "budget" } : null;
}

/** The most accurate point, of equals the last; null if there is none. */
const best = (points) =>
  points.reduce((found, next) => (next && !(found?.accuracy > next.accuracy) ? next : found), null);
