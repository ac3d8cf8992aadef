// The command that asks what the page asks.

import { byId } from "./dom.js";

/** Text as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * A curl command.
 * @param {{file: string, sample: boolean}} image its file; a sample is fetched from the server first
 * @param {Record<string, string>} headers budgets and model
 * @param {boolean} live whether to stream
 * @param {boolean} withKey whether an API key is in use; the command names a variable instead of it
 */
function command(image, headers, live, withKey) {
  const at = (path) => quoted(new URL(path, document.baseURI).href);
  // "-" would be standard input, and what begins with one is easily taken for an option.
  const file = image.file.startsWith("-") ? `./${image.file}` : image.file;
  const lines = [
    `curl ${live ? "-N " : ""}--data-binary ${image.sample ? "@-" : quoted(`@${file}`)}`,
    ...Object.entries(headers).map(([name, value]) => `  -H ${quoted(`${name}: ${value}`)}`),
    ...(withKey ? [`  -H "X-API-Key: $EXITRAMP_KEY"`] : []),
    `  ${at(live ? "classify/stream" : "classify")}`,
  ];
  const fetched = image.sample ? `curl -s ${at(`playground/samples/${image.file}`)} |\n` : "";
  return fetched + lines.join(" \\\n");
}

/** Shows the command, or, as a comment, which setting holds no number; there is nothing to copy then. */
export function showCommand(image, headers, live, withKey, wrong) {
  byId("copy").disabled = wrong !== null;
  byId("curl").textContent = wrong ? `# ${wrong}: not a number` : command(image, headers, live, withKey);
}

/** Copies the command that is shown, or selects it where a page may not copy. */
export async function copyCommand() {
  const button = byId("copy");
  try {
    await navigator.clipboard.writeText(byId("curl").textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("curl")); // browsers want HTTPS for that, except on localhost
    button.textContent = "Selected";
  }
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}
