/** A picture with its masks, the words that describe it, and what can be done with them. */

import { type Actions, actionRow, shortName } from "./actions";
import { Correction } from "./correct";
import { add, button, choice, el, set, slider } from "./dom";
import { canvasOf, colourOf, contextOf, draw, MaskPixels, viewSize } from "./masks";
import type { Ask } from "./question";
import { type JobRecord, type Mask, placeOf } from "./record";
import { words } from "./words";

type Mode = "masks" | "cut" | "side";
/** Segments a picture again; the argument names are those of segment_image. */
export type Segmenter = (args: Record<string, unknown>, ask: Ask) => Promise<void>;

const MOST_MASKS = 80;
const LONG_TEXT = 400; // characters from which a description may scroll, which keys must reach
const AT_ONCE = 4; // masks that are read at a time

export class PictureView {
  readonly root = el("section", { class: "job" });
  private canvas = canvasOf(1, 1);
  private original = canvasOf(1, 1);
  private frames = el("div", { class: "frames" });
  private main = el("div", { class: "frame" });
  private toolbar = el("div", { class: "toolbar" });
  private tag = el("span", { class: "tag", hidden: true });
  private pixels: MaskPixels[] = [];
  private picture: ImageBitmap | null = null;
  private mode: Mode = "masks";
  private opacity = 0.45;
  private shown: Set<number>;
  private lit: number | null = null;
  private chosen: number;
  private rows = new Map<number, HTMLElement>();
  private phrases = new Map<number, HTMLElement[]>();
  private forMask = el("div", { class: "for-mask" });
  private correction: Correction | null = null;

  constructor(
    private job: JobRecord,
    private actions: Actions,
    private segment: Segmenter | null,
  ) {
    this.shown = new Set(job.masks.map((mask) => mask.index));
    this.chosen = job.masks[0]?.index ?? 0;
    this.build();
  }

  async load(): Promise<void> {
    const { job } = this;
    const given = job.inputs.find((one) => one.argument === "image");
    const sources = [given, job.overlay].filter((one) => one != null);
    for (const source of sources) {
      try {
        this.picture = await this.actions.media.picture(source);
        if (source === job.overlay) {
          this.opacity = 0.1; // it is painted already
          this.actions.tell(words.noOriginal);
        }
        break;
      } catch {
        // the next one
      }
    }
    if (this.picture === null) {
      this.picture = await this.actions.media.preview(job.id);
      this.opacity = 0.1;
      if (this.picture !== null) this.actions.tell(words.onlyPreview);
    }
    const first = job.masks[0]?.media;
    const size = viewSize(this.picture?.width ?? first?.width ?? 640, this.picture?.height ?? first?.height ?? 360);
    for (const canvas of [this.canvas, this.original]) Object.assign(canvas, size);
    if (this.picture === null) this.showNothing();
    else this.choose(this.chosen);
    if (this.picture !== null) contextOf(this.original).drawImage(this.picture, 0, 0, size.width, size.height);
    this.redraw();
    const left = job.masks.slice(0, MOST_MASKS);
    const loadSome = async () => {
      for (let mask = left.shift(); mask !== undefined; mask = left.shift()) await this.loadMask(mask, size);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, loadSome));
    this.pixels.sort((a, b) => a.mask.index - b.mask.index);
    this.redraw();
    if (this.pixels.length === 0) this.toolbar.hidden = true; // there is nothing to switch
    set(this.root, { "data-ready": "yes" });
  }

  /** No picture can be had: what is known of its masks stands alone. */
  private showNothing(): void {
    const file = this.job.overlay ?? this.job.masks[0]?.media ?? null, url = file?.url ?? "";
    const open = button(words.openPicture, () => void this.actions.open(url), { class: "link" });
    const way = /^https?:/.test(url) ? open : words.fileAt(placeOf(file));
    this.frames.replaceChildren(el("p", { class: "quiet empty" }, words.noPixels, " ", way));
    this.choose(this.chosen);
  }

  private async loadMask(mask: Mask, size: { width: number; height: number }): Promise<void> {
    if (this.picture === null) return;
    try {
      this.pixels.push(MaskPixels.read(mask, await this.actions.media.picture(mask.media), size));
      this.redraw();
    } catch {
      this.rows.get(mask.index)?.querySelector(".quiet")?.append(` · ${words.unread}`);
    }
  }

  private build(): void {
    const { job } = this;
    set(this.canvas, { role: "img", "aria-label": this.describe() });
    set(this.original, { role: "img", "aria-label": words.original });
    add(this.main, this.canvas, this.tag);
    add(this.frames, this.main);
    this.buildToolbar();
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.light(null));
    this.canvas.addEventListener("click", (event) => this.pick(event));
    const stage = el("div", { class: "stage" }, this.frames, this.toolbar);
    const side = el("div", { class: "side" });
    if (job.text) add(side, el("h2", {}, words.description), this.prose());
    if (job.masks.length > 0) add(side, this.listHead(), this.list());
    else add(side, el("p", {}, words.noMasks));
    if (job.masksTotal > job.masks.length) add(side, el("p", { class: "quiet" }, words.moreMasks(job.masksTotal - job.masks.length)));
    add(side, this.forMask, this.actions.note);
    add(this.root, stage, side);
    this.choose(this.chosen);
  }

  private describe(): string {
    const media = this.job.overlay ?? this.job.masks[0]?.media;
    const names = this.job.masks.slice(0, 12).map((mask) => mask.label);
    const text = words.picture(media?.width ?? 0, media?.height ?? 0, this.job.masks.length);
    return [text, ...names].join("; ");
  }

  private buildToolbar(): void {
    const modes = choice(
      words.howToShow,
      [["masks", words.modeMasks], ["cut", words.modeCut], ["side", words.modeSide]],
      this.mode,
      (value) => this.show(value as Mode),
    );
    const range = { min: 0, max: 100, step: 5, value: this.opacity * 100 };
    const opacity = slider(words.opacity, range, (value) => {
      this.opacity = value / 100;
      this.redraw();
    });
    add(this.toolbar, modes, opacity.label);
  }

  private show(mode: Mode): void {
    this.mode = mode;
    this.frames.replaceChildren();
    if (mode === "side") {
      add(this.frames, el("figure", { class: "frame" }, this.original, el("figcaption", { class: "corner" }, words.original)));
    }
    add(this.frames, this.main);
    set(this.frames, { "data-mode": mode });
    this.redraw();
  }

  /** The text with its phrases as buttons that light their masks. */
  private prose(): HTMLElement {
    const { text, segments } = this.job;
    const made = el("p", { class: "prose", dir: "auto", tabindex: text.length > LONG_TEXT ? 0 : null });
    let at = 0;
    for (const segment of segments) {
      add(made, text.slice(at, segment.start), this.phrase(text.slice(segment.start, segment.end), segment.mask));
      at = segment.end;
    }
    add(made, text.slice(at));
    return made;
  }

  private phrase(text: string, index: number): HTMLElement {
    // No button element: that would be one box, and a phrase breaks over lines like the text around it.
    const made = el("span", { role: "button", tabindex: 0, class: "phrase", "data-mask": index, "--c": colourOf(index) }, text);
    made.addEventListener("click", () => this.choose(index));
    made.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.choose(index);
    });
    this.lightOn(made, index);
    this.phrases.set(index, [...(this.phrases.get(index) ?? []), made]);
    return made;
  }

  private lightOn(element: HTMLElement, index: number): void {
    element.addEventListener("pointerenter", () => this.light(index));
    element.addEventListener("pointerleave", () => this.light(null));
    element.addEventListener("focusin", () => this.light(index));
    element.addEventListener("focusout", () => this.light(null));
  }

  private listHead(): HTMLElement {
    const all = (on: boolean) => () => {
      this.shown = new Set(on ? this.job.masks.map((mask) => mask.index) : []);
      for (const [index, row] of this.rows) {
        const box = row.querySelector("input");
        if (box !== null) box.checked = this.shown.has(index);
      }
      this.redraw();
    };
    const few = this.job.masks.length < 2;
    return el(
      "div",
      { class: "head" },
      el("h2", {}, words.masks),
      !few && button(words.allOn, all(true), { class: "link" }),
      !few && button(words.allOff, all(false), { class: "link" }),
    );
  }

  private list(): HTMLElement {
    const made = el("ul", { class: "masks" });
    for (const mask of this.job.masks) add(made, this.row(mask));
    return made;
  }

  private row(mask: Mask): HTMLElement {
    const box = el("input", { type: "checkbox", checked: true, "aria-label": words.showMask(mask.label) });
    box.addEventListener("change", () => {
      if (box.checked) this.shown.add(mask.index);
      else this.shown.delete(mask.index);
      this.redraw();
    });
    const facts = [words.area(mask.area), mask.score !== null && words.score(mask.score), mask.box === null && words.emptyMask];
    const name = button("", () => this.choose(mask.index), { class: "name", "aria-pressed": false });
    add(name, el("span", { class: "label", dir: "auto" }, mask.label), el("span", { class: "quiet" }, facts.filter(Boolean).join(" · ")));
    const row = el("li", { "--c": colourOf(mask.index), "data-mask": mask.index }, box, name);
    this.lightOn(row, mask.index);
    this.rows.set(mask.index, row);
    return row;
  }

  private choose(index: number): void {
    const mask = this.job.masks.find((one) => one.index === index);
    this.chosen = index;
    for (const [at, row] of this.rows) {
      set(row, { class: at === index ? "chosen" : "" });
      set(row.querySelector("button") ?? row, { "aria-pressed": at === index });
    }
    this.forMask.replaceChildren(...this.buttons(mask));
  }

  private buttons(mask: Mask | undefined): HTMLElement[] {
    const { job, actions } = this, name = shortName(job), made: HTMLElement[] = [];
    if (mask !== undefined) {
      const link = `job://${job.id}/masks/${mask.index}`;
      const use = () => void actions.message(words.useMaskMessage(mask.label, link));
      const main: [string, () => void, string?][] = [[words.useMask, use, "main"]];
      if (this.segment !== null && this.sourceLink() !== "") main.push([words.correct, () => this.correct()]);
      made.push(actionRow(words.masks, actions.mode === "report" ? [] : main));
      if (this.segment === null && actions.mode === "host") made.push(el("p", { class: "quiet" }, words.noCorrect));
    }
    const saves: [string, () => void][] = [];
    if (this.picture === null && job.overlay !== null) {
      saves.push([words.downloadOverlay, () => job.overlay && void actions.saveFile(`${name}-overlay`, job.overlay)]);
    } else {
      saves.push([words.downloadOverlay, () => void this.saveCanvas(`${name}-overlay.png`, false)]);
    }
    if (mask !== undefined) {
      if (this.picture !== null) saves.push([words.downloadCut, () => void this.saveCanvas(`${name}-cut-out-${mask.index}.png`, true)]);
      saves.push([words.downloadMask, () => void actions.saveFile(`${name}-mask-${mask.index}.png`, mask.media)]);
    }
    if (job.coco !== null) saves.push([words.copyCoco, () => job.coco && void actions.copyFile(job.coco)]);
    if (saves.length > 0) made.push(el("h2", { class: "small" }, words.download), actionRow(words.download, saves));
    return made;
  }

  /** What is drawn, as a picture; the cut-out is that of the chosen mask. */
  private async saveCanvas(name: string, cut: boolean): Promise<void> {
    const made = canvasOf(this.canvas.width, this.canvas.height);
    if (this.picture === null) return;
    const shown = cut ? new Set([this.chosen]) : this.shown;
    draw(made, this.picture, this.pixels, { opacity: this.opacity, shown, lit: null, cut });
    const blob = await new Promise<Blob | null>((resolve) => made.toBlob(resolve, "image/png"));
    if (blob !== null) await this.actions.save(name, blob, cut ? null : this.job.overlay);
  }

  private place(event: MouseEvent): { x: number; y: number } {
    const shown = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - shown.left) / shown.width) * this.canvas.width,
      y: ((event.clientY - shown.top) / shown.height) * this.canvas.height,
    };
  }

  /** The smallest shown mask at a place. */
  private at(event: MouseEvent): MaskPixels | undefined {
    const { x, y } = this.place(event);
    const here = this.pixels.filter((one) => this.shown.has(one.mask.index) && one.has(x, y));
    return here.sort((a, b) => a.count - b.count)[0];
  }

  private hover(event: PointerEvent): void {
    if (this.correction !== null) return;
    const found = this.at(event);
    this.light(found?.mask.index ?? null);
    if (found === undefined) return;
    const shown = this.canvas.getBoundingClientRect();
    this.tag.hidden = false;
    this.tag.textContent = found.mask.label;
    this.tag.style.left = `${Math.min(event.clientX - shown.left + 12, shown.width - 40)}px`;
    this.tag.style.top = `${event.clientY - shown.top + 14}px`;
  }

  private pick(event: MouseEvent): void {
    const found = this.correction === null ? this.at(event) : undefined;
    if (found === undefined) return;
    this.choose(found.mask.index);
    this.rows.get(found.mask.index)?.scrollIntoView({ block: "nearest" });
  }

  private light(index: number | null): void {
    this.tag.hidden = true;
    if (index === this.lit) return;
    this.lit = index;
    for (const [at, row] of this.rows) row.classList.toggle("lit", at === index);
    for (const [at, made] of this.phrases) for (const one of made) one.classList.toggle("lit", at === index);
    this.redraw();
  }

  private redraw(): void {
    if (this.picture === null) return;
    const look = { opacity: this.opacity, shown: this.shown, lit: this.lit, cut: this.mode === "cut" };
    draw(this.canvas, this.picture, this.pixels, look);
  }

  private sourceLink(): string {
    const given = this.job.inputs.find((one) => one.argument === "image")?.uri ?? this.job.request["image"];
    return typeof given === "string" && !given.startsWith("data:") ? given : "";
  }

  private correct(): void {
    const segment = this.segment;
    if (segment === null || this.correction !== null) return;
    const media = this.job.masks[0]?.media;
    const scale = (this.picture?.width ?? media?.width ?? this.canvas.width) / this.canvas.width;
    const stop = () => {
      this.correction?.end();
      this.correction = null;
      this.choose(this.chosen);
      this.root.classList.remove("correcting");
      this.redraw();
    };
    this.root.classList.add("correcting");
    this.light(null);
    this.correction = new Correction(this.canvas, scale, this.job, {
      redraw: () => this.redraw(),
      stop,
      run: async (marks, ask) => {
        const request = this.job.request;
        const model = this.job.tool === "segment_image" && typeof request["model"] === "string" ? { model: request["model"] } : {};
        await segment({ image: this.sourceLink(), ...marks, ...model }, ask);
      },
    });
    this.forMask.replaceChildren(this.correction.panel);
    this.correction.begin();
  }
}
