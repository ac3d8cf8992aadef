// The service's routes. Addresses are relative to the page, so that it works below a path prefix too.

/** An answer that is an error, as the service described it; `status` 0 where there was no answer. */
export class Problem extends Error {
  constructor(status, members, retryAfter = null) {
    super(members.detail);
    Object.assign(this, {
      status,
      code: members.code,
      title: members.title,
      detail: members.detail,
      retryAfter,
    });
  }

  /** The detail as a sentence, and when to come back, where the service said so. */
  get told() {
    const sentence = `${this.detail.replace(/\.$/, "")}.`;
    return this.retryAfter ? `${sentence} Try again in ${this.retryAfter} s.` : sentence;
  }
}

/** An error that the service or the way there has made; mistakes of this page go on to the console. */
export function expected(error) {
  if (error instanceof Problem) return error;
  throw error;
}

const at = (path) => new URL(path, document.baseURI);

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(at(path), { cache: "no-store", ...options });
  } catch (error) {
    throw unreached(error, options?.signal);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  const members = told?.detail
    ? told
    : { code: "unexpected", title: "Unexpected answer", detail: `HTTP ${answer.status}` };
  throw new Problem(answer.status, members, answer.headers.get("Retry-After"));
}

function unreached(error, signal) {
  if (signal?.aborted) return error;
  const detail = "The server cannot be reached, or it closed the connection before its answer was complete.";
  return new Problem(0, { code: "unreachable", title: "No answer", detail });
}

/** What the service says to files over its limit; for those that need not be sent to know. */
export function tooLarge(bytes, limit) {
  const detail = `the file has ${bytes} bytes, the limit is ${limit} bytes`;
  return new Problem(413, { code: "too_large", title: "Too large", detail });
}

/** The models that are loaded. */
export const models = async () => (await (await asked("models")).json()).models;

/** A file of this page, as JSON. */
export const ownFile = async (name) => (await asked(`playground/${name}`, { cache: "default" })).json();

/** A sample's bytes. */
export const sample = async (file) =>
  (await asked(`playground/samples/${file}`, { cache: "default" })).blob();

const post = (path, body, headers, signal) => asked(path, { method: "POST", body, headers, signal });

const raw = (headers) => ({ "Content-Type": "application/octet-stream", ...headers });

/** POST /classify with one image. */
export const classify = async (image, headers, signal) =>
  (await post("classify", image, raw(headers), signal)).json();

/** POST /classify with several images in one request. */
export async function classifyAll(images, headers, signal) {
  const form = new FormData();
  for (const image of images) form.append("image", image, "image");
  return (await post("classify", form, headers, signal)).json();
}

/** POST /explain: the picture, and the exit and class that it is about. */
export async function explain(image, headers, signal) {
  const answer = await post("explain", image, raw(headers), signal);
  const [exit, index] = ["X-Exit", "X-Class-Index"].map((name) => Number(answer.headers.get(name)));
  return { picture: await answer.blob(), exit, index };
}

/**
 * POST /classify/stream: calls `onPrediction` with what each exit says as it comes.
 * Returns what /classify would have answered, and the events as they were sent.
 */
export async function classifyLive(image, headers, signal, onPrediction) {
  const answer = await post("classify/stream", image, raw(headers), signal);
  const predictions = [];
  let body = null;
  let text = "";
  try {
    for await (const [event, data] of events(answer.body, (piece) => {
      text += piece;
    })) {
      if (event === "error") throw new Problem(data.status, data);
      if (event === "done") body = { ...data, predictions: predictions.slice(-1) };
      if (event === "prediction") {
        predictions.push(data);
        onPrediction(data);
      }
    }
  } catch (error) {
    throw error instanceof Problem ? error : unreached(error, signal);
  }
  if (!body) throw unreached(null, signal);
  return { body, text };
}

/** The events of a stream, by name and data. Ours have one line of each. */
async function* events(body, onText) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onText(value);
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      yield [fields.get("event"), JSON.parse(fields.get("data"))];
    }
  }
}
