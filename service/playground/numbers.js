// Numbers as people read them and as the service's headers take them.

const SUFFIXES = [
  ["T", 1e12],
  ["G", 1e9],
  ["M", 1e6],
  ["k", 1e3],
];
const NUMBER = /^(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?([kMGT]?)$/;

/** A number as the headers allow it, e.g. "25M", or null. */
export function parsed(text) {
  const found = NUMBER.exec(text);
  if (!found || text.length > 64) return null;
  const [, factor] = SUFFIXES.find(([suffix]) => suffix === found[1]) ?? ["", 1];
  const value = Number.parseFloat(text) * factor;
  return value > 0 && Number.isFinite(value) ? value : null;
}

/** A number for a header, four digits, rounded up: the cheapest exit's FLOPs stay enough for it. */
export function headerNumber(value) {
  const [suffix, factor] = SUFFIXES.find(([, size]) => value >= size) ?? ["", 1];
  const digits = Math.max(0, 3 - Math.floor(Math.log10(value / factor)));
  const scale = 10 ** digits;
  return `${Number((Math.ceil((value / factor) * scale - 1e-9) / scale).toFixed(digits))}${suffix}`;
}

/** FLOPs for reading: "15.3 M". */
export function flops(value) {
  const [suffix, factor] = SUFFIXES.find(([, size]) => value >= size) ?? ["", 1];
  return `${Number((value / factor).toPrecision(3))} ${suffix}`.trim();
}

/** A share as a percentage; less than all is never rounded to 100 %, and more than nothing never to 0 %. */
export function percent(share, digits = 1) {
  const most = share < 1 ? 100 - 10 ** -digits : Infinity;
  const value = Math.min(share * 100, most);
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value > 0 && value < 0.5 ? 1 : digits)} %`;
}

/** A number of things, with an s where there is not one. */
export const counted = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

/** Milliseconds for reading. */
export const milliseconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;

/** Round steps that divide a range into about `count` parts. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9); i += 1) found.push(i * step);
  return found;
}
