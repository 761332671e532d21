/** Correcting a mask: points that belong to the object or do not, and a box, by pointer or by keys. */

import { add, button, choice, el, say, set } from "./dom";
import { contextOf } from "./masks";
import { type Ask, askIn } from "./question";
import type { Box, JobRecord } from "./record";
import { usd, words } from "./words";

interface Point { x: number; y: number; keep: boolean }
export interface Marks { points?: Point[]; box?: Box }
export interface Work { redraw(): void; stop(): void; run(marks: Marks, ask: Ask): Promise<void> }

const MOST_POINTS = 64; // what segment_image takes
const DRAG = 5; // pixels of the screen, from which a click is a drag

export class Correction {
  readonly panel = el("div", { class: "panel" });
  private points: Point[] = [];
  private box: Box | null = null;
  private draft: Box | null = null;
  private cross: { x: number; y: number } | null = null;
  private corner: { x: number; y: number } | null = null;
  private keep = true;
  private count = el("p", { role: "status" });
  private go: HTMLButtonElement;
  private closing = new AbortController();
  private asked = el("div");
  private problem = el("p", { class: "bad", role: "alert", hidden: true });

  constructor(
    private canvas: HTMLCanvasElement,
    private scale: number,
    job: JobRecord,
    private work: Work,
  ) {
    this.go = button(words.runAgain, () => void this.run(), { class: "main", disabled: true });
    const kinds = choice(words.pointKind, [["add", words.addPoints], ["remove", words.removePoints]], "add", (value) => {
      this.keep = value === "add";
    });
    const price = job.tool === "segment_image" && job.estimate !== null ? usd(job.estimate) : words.costUnknown;
    add(
      this.panel,
      el("h2", {}, words.correcting),
      el("p", { class: "quiet", id: "correct-help" }, words.correctHelp),
      el("div", { class: "row" }, kinds, button(words.undo, () => this.takeBack()), button(words.clear, () => this.clear())),
      this.count,
      el("div", { class: "row" }, this.go, button(words.stop, () => work.stop())),
      el("p", { class: "quiet" }, words.runPrice(job.sandbox ? words.free : price)),
      this.asked,
      this.problem,
    );
  }

  begin(): void {
    const { canvas } = this, signal = this.closing.signal;
    set(canvas, { tabindex: 0, role: "application", "aria-describedby": "correct-help", "aria-label": words.correcting });
    let start: PointerEvent | null = null;
    canvas.addEventListener("pointerdown", (event) => {
      start = event;
      canvas.setPointerCapture(event.pointerId);
    }, { signal });
    canvas.addEventListener("pointermove", (event) => {
      if (start !== null && far(start, event)) this.draft = boxOf(this.place(start), this.place(event));
      if (start !== null) this.draw();
    }, { signal });
    canvas.addEventListener("pointerup", (event) => {
      if (start === null) return;
      if (far(start, event)) this.box = boxOf(this.place(start), this.place(event));
      else this.point(this.place(event), event.altKey ? !this.keep : this.keep);
      start = this.draft = null;
      this.draw();
    }, { signal });
    canvas.addEventListener("pointercancel", () => {
      start = this.draft = null;
      this.draw();
    }, { signal });
    canvas.addEventListener("keydown", (event) => this.key(event), { signal });
    canvas.addEventListener("blur", () => {
      this.cross = null;
      this.draw();
    }, { signal });
    canvas.focus();
    this.draw();
  }

  end(): void {
    this.closing.abort();
    set(this.canvas, { tabindex: null, role: "img", "aria-describedby": null });
  }

  private place(event: PointerEvent): { x: number; y: number } {
    const shown = this.canvas.getBoundingClientRect();
    return this.inside(
      ((event.clientX - shown.left) / shown.width) * this.canvas.width,
      ((event.clientY - shown.top) / shown.height) * this.canvas.height,
    );
  }

  private inside(x: number, y: number): { x: number; y: number } {
    return { x: Math.min(Math.max(x, 0), this.canvas.width - 1), y: Math.min(Math.max(y, 0), this.canvas.height - 1) };
  }

  private point(at: { x: number; y: number }, keep: boolean): void {
    if (this.points.length < MOST_POINTS) this.points.push({ ...at, keep });
  }

  private takeBack(): void {
    if (this.points.pop() === undefined) this.box = null;
    this.draw();
  }

  private clear(): void {
    this.points = [];
    this.box = null;
    this.draw();
  }

  private key(event: KeyboardEvent): void {
    const step = event.shiftKey ? 25 : 5;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    };
    const move = moves[event.key];
    const cross = this.cross ?? { x: this.canvas.width / 2, y: this.canvas.height / 2 };
    if (move !== undefined) {
      this.cross = this.inside(cross.x + move[0], cross.y + move[1]);
      say(words.crossAt(Math.round(this.cross.x * this.scale), Math.round(this.cross.y * this.scale)));
    } else if (event.key === "Enter" || event.key === " ") {
      this.cross = cross;
      this.point(cross, event.altKey ? !this.keep : this.keep);
    } else if (event.key === "b" || event.key === "B") {
      if (this.corner === null) this.corner = this.cross = cross;
      else {
        this.box = boxOf(this.corner, cross);
        this.corner = null;
      }
    } else if (event.key === "Backspace" || event.key === "Delete") this.takeBack();
    else if (event.key === "Escape") return this.work.stop();
    else return;
    event.preventDefault();
    this.draft = this.corner !== null ? boxOf(this.corner, this.cross ?? cross) : null;
    this.draw();
  }

  private draw(): void {
    this.work.redraw();
    const context = contextOf(this.canvas);
    const thick = this.canvas.width / this.canvas.getBoundingClientRect().width || 1;
    const box = this.draft ?? this.box;
    const lines = (paint: () => void) => {
      for (const [colour, width] of [["#fff", 4], ["#0b57d0", 2]] as const) {
        context.strokeStyle = colour;
        context.lineWidth = width * thick;
        paint();
      }
    };
    if (box !== null) lines(() => context.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top));
    for (const point of this.points) dot(context, point, thick);
    const { cross } = this;
    if (cross !== null) {
      lines(() => {
        context.beginPath();
        context.moveTo(cross.x - 12 * thick, cross.y);
        context.lineTo(cross.x + 12 * thick, cross.y);
        context.moveTo(cross.x, cross.y - 12 * thick);
        context.lineTo(cross.x, cross.y + 12 * thick);
        context.stroke();
      });
    }
    this.count.textContent = words.marks(this.points.length, this.box !== null);
    this.go.disabled = this.points.length === 0 && this.box === null;
  }

  private async run(): Promise<void> {
    this.go.disabled = true;
    this.problem.hidden = true;
    const size = (value: number) => Math.round(value * this.scale);
    const marks: Marks = {};
    if (this.points.length > 0) marks.points = this.points.map(({ x, y, keep }) => ({ x: size(x), y: size(y), keep }));
    if (this.box !== null) {
      const { left, top, right, bottom } = this.box;
      marks.box = { left: size(left), top: size(top), right: size(right), bottom: size(bottom) };
    }
    try {
      await this.work.run(marks, askIn(this.asked));
    } catch (error) {
      this.problem.hidden = false;
      this.problem.textContent = error instanceof Error ? error.message : String(error);
    }
    this.go.disabled = false;
  }
}

const far = (a: PointerEvent, b: PointerEvent) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) > DRAG;

function boxOf(a: { x: number; y: number }, b: { x: number; y: number }): Box {
  return {
    left: Math.min(a.x, b.x), top: Math.min(a.y, b.y),
    right: Math.max(a.x, b.x, Math.min(a.x, b.x) + 1), bottom: Math.max(a.y, b.y, Math.min(a.y, b.y) + 1),
  };
}

function dot(context: CanvasRenderingContext2D, point: Point, thick: number): void {
  context.beginPath();
  context.arc(point.x, point.y, 8 * thick, 0, 2 * Math.PI);
  context.fillStyle = point.keep ? "#0a7d32" : "#b3261e";
  context.fill();
  context.strokeStyle = "#fff";
  context.lineWidth = 2 * thick;
  context.stroke();
  context.beginPath();
  context.moveTo(point.x - 4 * thick, point.y);
  context.lineTo(point.x + 4 * thick, point.y);
  if (point.keep) {
    context.moveTo(point.x, point.y - 4 * thick);
    context.lineTo(point.x, point.y + 4 * thick);
  }
  context.stroke();
}
