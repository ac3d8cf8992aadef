// Whether a file moves. Browsers play animations; the service reads their first frame.

/** Whether a file is a GIF, PNG or WebP with more than one frame. */
export async function moves(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const named = (at, name) => [...name].every((letter, n) => bytes[at + n] === letter.charCodeAt(0));
  if (named(0, "GIF8")) return framesOfGif(bytes) > 1;
  if (named(1, "PNG")) return chunksOfPng(bytes, named);
  return named(0, "RIFF") && named(12, "VP8X") && (bytes[20] & 2) !== 0; // the flag of an animation
}

/** Frames of a GIF, counted to two at most: blocks follow one another, each made of sized pieces. */
function framesOfGif(bytes) {
  const colours = (flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let frames = 0;
  let at = 13 + colours(bytes[10]);
  while (frames < 2 && (bytes[at] === 0x21 || bytes[at] === 0x2c)) {
    const image = bytes[at] === 0x2c;
    frames += Number(image);
    at += image ? 11 + colours(bytes[at + 9]) : 2;
    while (bytes[at]) at += bytes[at] + 1;
    at += 1;
  }
  return frames;
}

/** Whether a PNG announces an animation before its picture begins. */
function chunksOfPng(bytes, named) {
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 8 <= bytes.length && !named(at + 4, "IDAT"); at += 12 + view.getUint32(at)) {
    if (named(at + 4, "acTL")) return true;
  }
  return false;
}
