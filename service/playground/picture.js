// The image: chosen, dropped, pasted or photographed, shown as the network sees it, under its activation map.

import { moves } from "./animation.js";
import { byId } from "./dom.js";

/** Shows one image, and lets users bring their own. */
export class Picture {
  #urls = { picture: null, map: null };
  #input = null; // of the model
  #shown = null; // the image

  /** `onPick` is called with each image that a user brings, `onMap` when a map is wanted. */
  constructor(onPick, onMap) {
    const take = (blob, name) => {
      if (blob) onPick({ blob, file: blob.name || name, sample: false, truth: null });
    };
    for (const id of ["file", "camera"]) {
      byId(id).addEventListener("change", ({ target }) => {
        take(target.files[0], "image");
        target.value = ""; // so that the same file can be chosen again
      });
    }
    document.addEventListener("paste", ({ clipboardData }) => take(clipboardData.files[0], "pasted.png"));
    this.#listenForDrops(take);
    byId("picture").addEventListener("load", () => this.#tellCut());
    byId("picture").addEventListener("error", () => this.#blank("No preview of this file"));
    byId("map-opacity").addEventListener("input", () => this.#fade());
    byId("map-on").addEventListener("change", () => {
      this.clearMap();
      if (this.mapWanted) onMap();
    });
  }

  get mapWanted() {
    return byId("map-on").checked;
  }

  /** Shows an image in the frame. */
  show(image) {
    byId("image-name").textContent = image.truth ?? image.file;
    byId("picture").alt = image.truth ? `${image.truth} (sample)` : image.file;
    byId("picture").hidden = false;
    byId("no-picture").hidden = true;
    this.#load("picture", image.blob);
    this.clearMap();
    this.#tellMoves(image);
  }

  /** Fits the frame to what a model's network sees: the short side resized, the centre cut out. */
  frame(input) {
    const { style } = byId("preview");
    style.setProperty("--shape", `${input.width} / ${input.height}`);
    style.setProperty("--zoom", String(input.resize / Math.min(input.width, input.height)));
    this.#input = input;
    this.#tellCut();
  }

  /** Shows an activation map above the image. */
  showMap(blob, note) {
    this.#load("map", blob);
    byId("map").hidden = false;
    byId("map-note").textContent = note;
    this.#fade();
  }

  /** Removes the map; says why, where there is a reason. */
  clearMap(reason = "") {
    byId("map").hidden = true;
    byId("map-opacity-label").hidden = !this.mapWanted;
    byId("map-note").textContent = reason;
  }

  /** Says so where the network does not see all of the image. */
  #tellCut() {
    const { naturalWidth: width, naturalHeight: height, hidden } = byId("picture");
    if (!this.#input) return;
    const { resize, width: across, height: down } = this.#input;
    const size = resize / Math.min(width, height);
    const whole = hidden || !width || (width * size < across + 1 && height * size < down + 1);
    const middle = across === down ? "middle square" : "middle";
    byId("cut-note").textContent = whole ? "" : `Only the ${middle} is judged, as shown.`;
  }

  async #tellMoves(image) {
    this.#shown = image;
    byId("moves-note").textContent = "";
    const moving = await moves(image.blob);
    if (moving && this.#shown === image) byId("moves-note").textContent = "Only the first frame is judged.";
  }

  #fade() {
    byId("map").style.opacity = byId("map-opacity").value / 100;
  }

  #blank(text) {
    byId("picture").hidden = true;
    byId("no-picture").textContent = text;
    byId("no-picture").hidden = false;
    this.#tellCut();
  }

  #load(id, blob) {
    const old = this.#urls[id];
    this.#urls[id] = URL.createObjectURL(blob);
    byId(id).src = this.#urls[id];
    if (old) URL.revokeObjectURL(old);
  }

  #listenForDrops(take) {
    const over = (is) => byId("image").classList.toggle("over", is);
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      over(true);
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) over(false);
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault(); // else the browser would leave the page for the file
      over(false);
      take(event.dataTransfer.files[0], "dropped");
    });
  }
}
