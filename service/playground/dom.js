// Elements. Text always becomes text nodes: class names and file names are not ours, and never markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** An HTML element with attributes and children (strings or nodes). */
export const html = (tag, attributes, ...children) =>
  filled(document.createElement(tag), attributes, children);

/** An SVG element with attributes and children (strings or nodes). */
export const svg = (tag, attributes, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Draws whenever the width changes, and when it is called: letters keep their size in any width. */
export function drawnToFit(container, draw) {
  let width = 0;
  const redraw = () => container.replaceChildren(draw(Math.max(280, container.clientWidth)));
  new ResizeObserver(() => {
    if (container.clientWidth !== width) {
      width = container.clientWidth;
      redraw();
    }
  }).observe(container);
  return redraw;
}
