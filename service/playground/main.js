// The page: what was picked and set goes to the service, and what comes back is shown unless something newer
// was asked.

import { announce, showAnswer } from "./answer.js";
import { copyCommand, showCommand } from "./command.js";
import { Controls, offerModels } from "./controls.js";
import { drawCurve } from "./curve.js";
import { byId, drawnToFit } from "./dom.js";
import { Means } from "./means.js";
import { caption, drawNetwork } from "./network.js";
import { Picture } from "./picture.js";
import { listenForKey, reason, showProblem, showStrip, wantKey } from "./problem.js";
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
let problem = null; // why there is none, or no sample
let waiting = false; // what is shown is about the settings before
let question = { abort() {}, asked: null }; // the latest; it aborts the one before
let timer = 0;

const means = new Means();
const controls = new Controls(changed);
const picture = new Picture(pick, () => map(question));
const samples = new Samples(pick, askAll, (error) => tell(service.expected(error)));
const redrawNetwork = drawnToFit(byId("network"), (width) => (shown ? network(width) : "…"));
const redrawCurve = drawnToFit(byId("curve"), (width) => (shown ? curve(width) : "…"));

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
  const way = { said, done: body !== null, marks: marks(controls.values(), candidates()[0]) };
  return drawNetwork(width, shown, way);
}

function curve(width) {
  const values = controls.values();
  const others = loaded.filter((model) => model.task === shown.task && model !== shown);
  return drawCurve(width, shown, others, {
    marks: marks(values, candidates()[0]),
    landing: landing(values, candidates(), byId("live").checked),
    spent: body ? said.at(-1).flops : null,
  });
}

/** Shows everything anew from what is known. */
function render() {
  const wrong = shown && controls.wrong();
  showStrip(said.at(-1), problem, wrong);
  if (!shown) return;
  const asked = headers();
  const why = reason(problem, wrong);
  showAnswer(shown, said, body, waiting || !(body || why), why);
  redrawNetwork();
  redrawCurve();
  means.show(JSON.stringify(asked), meanInForce(controls.values(), candidates()[0]), shown);
  byId("network-caption").textContent = caption(shown);
  byId("live-note").hidden = !byId("live").checked || controls.values().limit === null;
  if (image) showCommand(image, asked, byId("live").checked, key !== "", wrong);
}

/** Shows what went wrong, or that nothing does any more. */
function tell(news) {
  problem = news;
  showProblem(problem);
  if (problem) wantKey(problem.status === 401);
  render();
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
  if (!shown) return;
  question.abort();
  waiting = said.length > 0;
  tell(null);
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE_MS);
}

/** Asks about the image, and about whatever else is switched on. */
async function ask() {
  if (!shown) return;
  clearTimeout(timer);
  question.abort();
  const turn = new AbortController();
  const asked = headers();
  const { signal } = turn;
  question = { asked, signal, sent: withKey(asked), abort: () => turn.abort() };
  waiting = Boolean(image && asked);
  tell(null);
  if (!asked) samples.clear(); // what they said was about other settings
  if (!waiting) return;
  try {
    await Promise.all([answer(question).then(map), all(question)]);
  } catch (error) {
    if (signal.aborted) return;
    forget();
    picture.clearMap();
    tell(service.expected(error));
  }
}

async function answer(current) {
  const { asked, sent, signal } = current;
  if (image.blob.size > limits.max_body_bytes) throw service.tooLarge(image.blob.size, limits.max_body_bytes);
  const hear = (prediction) => {
    if (signal.aborted) return;
    if (waiting) forget();
    said = [...said, prediction];
    render();
  };
  const result = byId("live").checked
    ? await service.classifyLive(image.blob, sent, signal, hear)
    : { body: await service.classify(image.blob, sent, signal) };
  signal.throwIfAborted();
  wantKey(false);
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
    if (!signal.aborted) picture.clearMap(service.expected(error).told);
  }
}

/** Asks about all samples, and again about an image that was refused. */
function askAll() {
  if (!body) return ask();
  tell(null);
  return all(question);
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
    if (!signal.aborted) samples.clear(service.expected(error).told);
  }
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
  listenForKey((entered) => {
    key = entered;
    ask();
  });
}

/** Waits for models, then begins. */
async function start() {
  try {
    [loaded, limits] = await Promise.all([service.models(), service.ownFile("limits.json"), samples.load()]);
  } catch (error) {
    tell(service.expected(error));
  }
  if (!loaded.length) {
    setTimeout(start, RETRY_MS);
    return;
  }
  tell(null);
  offerModels(loaded);
  choose();
}

startTheme();
listen();
start();
