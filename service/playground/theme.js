// Light, dark, or as the system has it. What was chosen stays in this browser, where it may be stored.

import { byId } from "./dom.js";

const NAMES = ["system", "light", "dark"];

function remembered() {
  try {
    return NAMES.find((name) => name === localStorage.getItem("exitramp-theme")) ?? "system";
  } catch {
    return "system"; // storage is forbidden
  }
}

function remember(name) {
  try {
    localStorage.setItem("exitramp-theme", name);
  } catch {
    // as above: then it is forgotten with the page
  }
}

/** Applies the theme and has the button change it. */
export function startTheme() {
  const button = byId("theme");
  let name = remembered();
  const apply = () => {
    document.documentElement.dataset.theme = name;
    button.textContent = `◐ ${name}`;
    button.setAttribute("aria-label", `Theme: ${name}`);
  };
  button.addEventListener("click", () => {
    name = NAMES[(NAMES.indexOf(name) + 1) % NAMES.length];
    remember(name);
    apply();
  });
  apply();
}
