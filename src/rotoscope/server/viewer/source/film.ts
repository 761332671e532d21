/** A film: played, compared with the film before its edit, and as a strip of frames. */

import { type Actions, actionRow, shortName } from "./actions";
import { add, button, choice, el, set, slider } from "./dom";
import type { Host } from "./host";
import { canvasOf, contextOf, viewSize } from "./masks";
import { dataUrl, MAX_MESSAGE, type Source } from "./media";
import { type JobRecord, type MediaFile, placeOf } from "./record";
import { bytes, clock, words } from "./words";

type Mode = "after" | "compare" | "side";

export class FilmView {
  readonly root = el("section", { class: "job film" });
  private after = el("video", { playsinline: true, preload: "auto", "aria-label": "" });
  private before = el("video", { playsinline: true, preload: "auto", muted: true, "aria-label": words.filmBefore });
  private stage = el("div", { class: "screen", "data-mode": "after" });
  private poster = canvasOf(1, 1);
  private strip = canvasOf(1, 1);
  private play: HTMLButtonElement;
  private scrub: HTMLInputElement;
  private time = el("span", { class: "time" });
  private divider: { label: HTMLLabelElement; input: HTMLInputElement };
  private controls = el("div", { class: "controls" });
  private message = el("p", { class: "quiet", hidden: true });
  private compareBar = el("div", { class: "toolbar", hidden: true });
  private hasBefore = false;
  private hasPoster = false;

  constructor(
    private job: JobRecord,
    private video: MediaFile,
    private actions: Actions,
    private host: Host,
  ) {
    this.play = button(words.play, () => this.toggle(), { class: "main play" });
    this.scrub = el("input", { type: "range", min: 0, max: video.seconds, step: "any", value: 0, "aria-label": words.position });
    this.scrub.addEventListener("input", () => this.seek(Number(this.scrub.value)));
    this.divider = slider(words.divider, { min: 0, max: 100, step: 1, value: 50 }, (value) => this.divide(value));
    this.build();
  }

  private build(): void {
    const { job, video, after } = this;
    set(after, { "aria-label": words.film(video.width ?? 0, video.height ?? 0, video.seconds) });
    after.muted = true;
    this.before.muted = true;
    this.shape(1);
    set(this.poster, { role: "img", "aria-label": words.film(video.width ?? 0, video.height ?? 0, video.seconds), class: "poster" });
    const tags = [el("span", { class: "corner left" }, words.beforeTag), el("span", { class: "corner right" }, words.afterTag)];
    add(this.stage, this.poster, el("div", { class: "half" }, after), el("div", { class: "half before" }, this.before), el("span", { class: "line" }), ...tags);
    this.drag();
    const modes: [string, string][] = [["after", words.after], ["compare", words.compare], ["side", words.sideBySide]];
    add(this.compareBar, choice(words.howToCompare, modes, "after", (value) => this.show(value as Mode)), this.divider.label);
    this.divider.label.hidden = true;
    this.buildControls();
    const stage = el("div", { class: "stage" }, this.stage, this.controls, this.compareBar, this.message);
    if (job.filmstrip !== null) add(stage, this.stripButton());
    const name = shortName(job);
    const saves: [string, () => void, string?][] = [[words.downloadFilm, () => void this.actions.saveFile(`${name}.mp4`, video), "main"]];
    if (job.maskFilm) saves.push([words.downloadMaskFilm, () => job.maskFilm && void this.actions.saveFile(`${name}-mask.mp4`, job.maskFilm)]);
    if (job.maskFilm && job.coco) saves.push([words.downloadCoco, () => job.coco && void this.actions.saveFile(`${name}-coco.json`, job.coco)]);
    if (job.poster) saves.push([words.downloadPoster, () => job.poster && void this.actions.saveFile(`${name}.jpg`, job.poster)]);
    add(stage, el("h2", { class: "small" }, words.download), actionRow(words.download, saves), this.actions.note);
    add(this.root, stage);
    for (const event of ["timeupdate", "play", "pause", "ended", "loadedmetadata"]) after.addEventListener(event, () => this.follow());
    after.addEventListener("play", () => this.tick());
  }

  private buildControls(): void {
    const frame = 1 / (this.video.frameRate || 25);
    const step = (by: number) => () => {
      this.after.pause();
      this.seek(this.after.currentTime + by);
    };
    const loop = el("input", { type: "checkbox" });
    loop.addEventListener("change", () => (this.after.loop = this.before.loop = loop.checked));
    add(
      this.controls,
      this.play,
      button("‹", step(-frame), { "aria-label": words.stepBack, class: "icon" }),
      button("›", step(frame), { "aria-label": words.stepOn, class: "icon" }),
      this.scrub,
      this.time,
      el("label", { class: "check" }, loop, words.loop),
    );
    if (!this.video.hasAudio) return;
    const mute = button(words.unmute, () => {
      this.after.muted = !this.after.muted;
      mute.textContent = this.after.muted ? words.unmute : words.mute;
    });
    add(this.controls, mute);
  }

  private stripButton(): HTMLElement {
    const strip = button("", () => {}, { class: "strip", "aria-label": words.filmstrip });
    add(strip, this.strip);
    strip.addEventListener("click", (event) => {
      const shown = strip.getBoundingClientRect();
      // A key has no place; then it steps on by a frame of the strip.
      const share = event.detail === 0 ? (this.after.currentTime / this.video.seconds + 0.25) % 1 : (event.clientX - shown.left) / shown.width;
      this.seek(share * this.video.seconds);
    });
    return strip;
  }

  async load(): Promise<void> {
    const { media } = this.actions, { job } = this;
    const drawn = await Promise.all([this.paint(this.poster, job.poster), this.paint(this.strip, job.filmstrip)]);
    // Where neither can be read, there may be the small picture that came with the result.
    const preview = drawn.includes(true) ? null : await media.preview(job.id);
    if (preview !== null) drawn[1] = this.draw(this.strip, preview);
    this.hasPoster = drawn[0] === true;
    if (await this.open(this.after, this.video, this.video.size)) {
      set(this.root, { "data-ready": "yes" });
      this.poster.hidden = true;
      this.follow();
    } else this.giveUp();
    const given = this.job.inputs.find((one) => one.argument === "video");
    if (this.poster.hidden && given !== undefined && (await this.open(this.before, given, 0))) {
      this.hasBefore = true;
      this.compareBar.hidden = false;
      set(this.root, { "data-before": "yes" });
    }
  }

  private async paint(canvas: HTMLCanvasElement, file: MediaFile | null): Promise<boolean> {
    try {
      return file !== null && this.draw(canvas, await this.actions.media.picture(file));
    } catch {
      canvas.hidden = true;
      return false;
    }
  }

  private draw(canvas: HTMLCanvasElement, picture: ImageBitmap): boolean {
    canvas.hidden = false;
    Object.assign(canvas, viewSize(picture.width, picture.height));
    contextOf(canvas).drawImage(picture, 0, 0, canvas.width, canvas.height);
    return true;
  }

  /** Open a film at its address or from its bytes; whether it can be played. */
  private async open(video: HTMLVideoElement, source: Source, size: number): Promise<boolean> {
    if (this.host.reaches(source.url, "resourceDomains") && (await canPlay(video, source.url))) return true;
    if (size > MAX_MESSAGE && this.actions.mode === "host") return false;
    try {
      const blob = await this.actions.media.load(source);
      if (!blob.type.startsWith("video/")) return false;
      // By the default policy of hosts a film may come from a data: address; some let blob: in.
      if (await canPlay(video, await dataUrl(blob))) return true;
      return await canPlay(video, URL.createObjectURL(blob));
    } catch {
      return false;
    }
  }

  private giveUp(): void {
    const { video, actions } = this;
    this.controls.hidden = true;
    this.stage.hidden = !this.hasPoster;
    this.message.hidden = false;
    const hasFrames = this.hasPoster || !this.strip.hidden;
    const why = video.size > MAX_MESSAGE ? words.filmTooLarge(bytes(video.size)) : words.noFilm;
    this.message.replaceChildren(why, " ", hasFrames ? words.framesBelow : "");
    if (/^https?:/.test(video.url)) {
      add(this.message, " ", button(words.openFilm, () => void actions.open(video.url), { class: "link" }));
    } else {
      const command = actions.mode === "host" && this.job.id ? words.openByCommand(this.job.id) : "";
      add(this.message, el("span", { class: "place" }, words.fileAt(placeOf(video))), command && el("span", { class: "place" }, command));
    }
    set(this.root, { "data-ready": "strip" });
  }

  private toggle(): void {
    if (this.after.paused) {
      void this.after.play();
      if (this.hasBefore) void this.before.play();
    } else this.after.pause();
  }

  private seek(to: number): void {
    const last = Math.max(this.video.seconds - 0.01, 0);
    this.after.currentTime = Math.min(Math.max(to, 0), last);
    this.before.currentTime = this.after.currentTime;
    this.follow();
  }

  private follow(): void {
    const { after, before } = this;
    this.play.textContent = after.paused ? words.play : words.pause;
    this.scrub.value = String(after.currentTime);
    set(this.scrub, { "aria-valuetext": clock(after.currentTime) });
    this.time.textContent = `${clock(after.currentTime)} / ${clock(this.video.seconds)}`;
    if (!this.hasBefore) return;
    if (after.paused && !before.paused) before.pause();
    if (Math.abs(before.currentTime - after.currentTime) > 0.1) before.currentTime = after.currentTime;
  }

  private tick(): void {
    this.scrub.value = String(this.after.currentTime);
    if (!this.after.paused) requestAnimationFrame(() => this.tick());
  }

  private show(mode: Mode): void {
    set(this.stage, { "data-mode": mode });
    this.divider.label.hidden = mode !== "compare";
    this.shape(mode === "side" ? 2 : 1);
    this.divide(Number(this.divider.input.value));
    this.seek(this.after.currentTime);
  }

  /** As wide as so many films beside each other, and no higher than a screen. */
  private shape(films: number): void {
    const { width, height } = this.video;
    this.stage.style.setProperty("--ratio", String(((width || 16) * films) / (height || 9)));
  }

  private divide(percent: number): void {
    this.divider.input.value = String(percent);
    this.stage.style.setProperty("--at", `${percent}%`);
  }

  private drag(): void {
    const move = (event: PointerEvent) => {
      if (this.stage.dataset["mode"] !== "compare" || event.buttons === 0) return;
      const shown = this.stage.getBoundingClientRect();
      this.divide(Math.min(Math.max(((event.clientX - shown.left) / shown.width) * 100, 0), 100));
    };
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.setPointerCapture(event.pointerId);
      move(event);
    });
    this.stage.addEventListener("pointermove", move);
  }
}

/** Whether a film opens from an address; what a policy refuses or nobody decodes does not. */
function canPlay(video: HTMLVideoElement, url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (can: boolean) => () => {
      clearTimeout(timer);
      video.removeEventListener("loadeddata", good);
      video.removeEventListener("error", bad);
      resolve(can);
    };
    const good = end(true), bad = end(false);
    const timer = setTimeout(bad, 20_000);
    video.addEventListener("loadeddata", good);
    video.addEventListener("error", bad);
    video.src = url;
    video.load();
  });
}
