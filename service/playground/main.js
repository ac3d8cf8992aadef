// The page: what was picked and set goes to the service, and what comes back is shown unless something newer
// was asked.

import { announce, showAnswer, showProblem } from "./answer.js";
import { command, copyCommand } from "./command.js";
import { Controls, offerModels } from "./controls.js";
import { drawCurve } from "./curve.js";
import { byId, drawnToFit, html } from "./dom.js";
import { Means } from "./means.js";
import { drawNetwork } from "./network.js";
import { counted, flops } from "./numbers.js";
import { Picture } from "./picture.js";
import { Samples } from "./samples.js";
import * as service from "./service.js";
import { landing, marks, meanInForce } from "./settings.js";
import { startTheme } from "./theme.js";

const PAUSE_MS = 120; // after the last move of a slider
const RETRY_MS = 2000; // while the models are still being loaded

let loaded = []; // models, as /models describes them
let shown = null; // the one whose network is drawn
let limits = { max_body_bytes: Infinity };
let image = null;
let key = "";
let said = []; // what exits have said about the image
let body = null; // the whole answer
let waiting = false; // what is shown is about the settings before
let question = { abort() {}, asked: null }; // the latest; it aborts the one before
let timer = 0;

const means = new Means();
const controls = new Controls(changed);
const picture = new Picture(pick, () => map(question));
const samples = new Samples(pick, () => all(question), (error) => showProblem(expected(error)));
const redrawNetwork = drawnToFit(byId("network"), network);
const redrawCurve = drawnToFit(byId("curve"), curve);

/** X-Model and budgets as headers; null before models are there, and while a field holds no number. */
function headers() {
  const budgets = shown && controls.headers();
  return budgets && { "X-Model": byId("model").value, ...budgets };
}

const withKey = (asked) => (key ? { ...asked, "X-API-Key": key } : asked);

/** The models that may answer: the one that is chosen, or all of the task that is chosen. */
function candidates() {
  const { value } = byId("model");
  return loaded.filter((model) => model.name === value || model.task === value);
}

function network(width) {
  if (!shown) return html("p", {}, "…");
  const way = { said, done: body !== null, marks: marks(controls.values(), candidates()[0]) };
  return drawNetwork(width, shown, way);
}

function curve(width) {
  if (!shown) return html("p", {}, "…");
  const values = controls.values();
  const others = loaded.filter((model) => model.task === shown.task && model !== shown);
  const spent = body ? said.at(-1).flops : null;
  return drawCurve(width, shown, others, {
    marks: marks(values, candidates()[0]),
    landing: landing(values, candidates(), byId("live").checked),
    spent,
  });
}

/** Shows everything anew from what is known. */
function render() {
  if (!shown) return;
  const asked = headers();
  showAnswer(shown, said, body, waiting || !body);
  redrawNetwork();
  redrawCurve();
  means.show(JSON.stringify(asked), meanInForce(controls.values(), candidates()[0]), shown);
  byId("network-caption").textContent =
    `${shown.name}: ${counted(shown.exits.length, "exit")}, ` +
    `${flops(shown.exits.at(-1).flops)} FLOPs at full depth. Blocks are as wide as they are expensive, ` +
    "rings as long as exits are sure; dashed exits were not asked.";
  byId("live-note").hidden = !byId("live").checked || controls.values().limit === null;
  if (image && asked) byId("curl").textContent = command(image, asked, byId("live").checked, key !== "");
}

function forget() {
  waiting = false;
  [said, body] = [[], null];
  byId("raw").textContent = "";
}

/** Shows an image and asks about it; before models are there, `choose` does that. */
function pick(picked) {
  image = picked;
  samples.mark(picked.sample ? picked.file : null);
  picture.show(picked);
  forget();
  ask();
}

/** After a change of settings: asks once they rest. What is being said is about others by now. */
function changed() {
  question.abort();
  waiting = true;
  render();
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE_MS);
}

/** Asks about the image, and about whatever else is switched on. */
async function ask() {
  clearTimeout(timer);
  question.abort();
  const turn = new AbortController();
  const asked = headers();
  const { signal } = turn;
  question = { asked, signal, sent: withKey(asked), abort: () => turn.abort() };
  waiting = Boolean(image && asked);
  if (!waiting) return;
  showProblem(null);
  render();
  try {
    await Promise.all([answer(question).then(map), all(question)]);
  } catch (error) {
    if (!signal.aborted) failed(error);
  }
}

async function answer(current) {
  const { asked, sent, signal } = current;
  if (image.blob.size > limits.max_body_bytes) throw service.tooLarge(image.blob.size, limits.max_body_bytes);
  const tell = (prediction) => {
    if (signal.aborted) return;
    if (waiting) forget();
    said = [...said, prediction];
    render();
  };
  const result = byId("live").checked
    ? await service.classifyLive(image.blob, sent, signal, tell)
    : { body: await service.classify(image.blob, sent, signal) };
  signal.throwIfAborted();
  body = result.body;
  if (waiting) said = body.predictions;
  waiting = false;
  shown = loaded.find((model) => model.name === body.model) ?? shown; // models of a task take turns
  picture.frame(shown.input);
  byId("raw").textContent = result.text ?? JSON.stringify(body, null, 2);
  means.add(JSON.stringify(asked), 1, body.flops);
  render();
  announce(said.at(-1));
  return current;
}

/** Draws the map of the exit that answered: asked again, the image may leave elsewhere. */
async function map({ signal }) {
  if (!picture.mapWanted || !body) return;
  const { exit } = said.at(-1);
  const asked = {
    "X-Model": `${body.model}@${body.version}`,
    "X-FLOP-Limit": String(shown.exits[exit - 1].flops),
  };
  try {
    const drawn = await service.explain(image.blob, withKey(asked), signal);
    const note = `Why exit ${drawn.exit} says ${shown.classes[drawn.index]}`;
    if (!signal.aborted) picture.showMap(drawn.picture, note);
  } catch (error) {
    if (!signal.aborted) picture.clearMap(expected(error).detail);
  }
}

async function all({ asked, sent, signal }) {
  if (!samples.allWanted || !asked) return;
  try {
    const images = await samples.images();
    const answered = await service.classifyAll(
      images.map(({ blob }) => blob),
      sent,
      signal,
    );
    if (signal.aborted) return;
    means.add(JSON.stringify(asked), samples.showAll(answered), answered.flops);
    render();
  } catch (error) {
    if (!signal.aborted) samples.clear(expected(error).detail);
  }
}

/** An error that the service or the way there has made; mistakes of this page go on to the console. */
function expected(error) {
  if (error instanceof service.Problem) return error;
  throw error;
}

function failed(error) {
  const problem = expected(error);
  forget();
  render();
  picture.clearMap();
  showProblem(problem);
  if (problem.status === 401) byId("key-form").hidden = false;
}

/** Shows the model that is chosen, or the first of the task that is chosen. */
function choose() {
  const task = shown?.task;
  question.abort();
  [shown] = candidates();
  forget();
  controls.fit(candidates());
  picture.frame(shown.input);
  const first = task === shown.task ? null : samples.show(shown.task);
  if (first && (image?.sample ?? true)) samples.pick(first);
  else changed();
}

function listen() {
  byId("model").addEventListener("change", choose);
  byId("live").addEventListener("change", changed);
  byId("again").addEventListener("click", ask);
  byId("copy").addEventListener("click", copyCommand);
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value.trim();
    ask();
  });
}

/** Waits for models, then begins. */
async function start() {
  try {
    [loaded, limits] = await Promise.all([service.models(), service.ownFile("limits.json"), samples.load()]);
  } catch (error) {
    showProblem(expected(error));
  }
  if (!loaded.length) {
    setTimeout(start, RETRY_MS);
    return;
  }
  showProblem(null);
  offerModels(loaded);
  choose();
}

startTheme();
listen();
start();
