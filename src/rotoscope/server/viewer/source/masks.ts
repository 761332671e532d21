/** Masks as pixels: read once, cut to their box, then drawn in their colour, as an edge, or found by a place. */

import type { Mask } from "./record";

export const COLOURS = ["#56b4e9", "#d55e00", "#f0e442", "#009e73", "#cc79a7", "#0072b2", "#e69f00"];
const LONGEST_SIDE = 1600; // pixels of the canvas

export const colourOf = (index: number): string => COLOURS[index % COLOURS.length] ?? "#56b4e9";

/** How large a picture is drawn. */
export function viewSize(width: number, height: number): { width: number; height: number } {
  const ratio = Math.min(1, LONGEST_SIDE / Math.max(width, height, 1));
  return { width: Math.max(1, Math.round(width * ratio)), height: Math.max(1, Math.round(height * ratio)) };
}

export class MaskPixels {
  readonly count: number;

  private constructor(
    readonly mask: Mask,
    readonly left: number,
    readonly top: number,
    readonly width: number,
    readonly height: number,
    private bits: Uint8Array,
    readonly fill: HTMLCanvasElement,
    readonly edge: HTMLCanvasElement,
  ) {
    this.count = bits.reduce((sum, bit) => sum + bit, 0);
  }

  /** The mask of a picture, where white is selected, at the size of the view. */
  static read(mask: Mask, picture: ImageBitmap, view: { width: number; height: number }): MaskPixels {
    const drawn = canvasOf(view.width, view.height);
    const context = contextOf(drawn, true);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, view.width, view.height);
    const pixels = context.getImageData(0, 0, view.width, view.height).data;
    let left = view.width, top = view.height, right = -1, bottom = -1;
    for (let y = 0, at = 0; y < view.height; y++) {
      for (let x = 0; x < view.width; x++, at += 4) {
        if ((pixels[at] ?? 0) < 128) continue;
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
      }
    }
    if (right < 0) return new MaskPixels(mask, 0, 0, 1, 1, new Uint8Array(1), canvasOf(1, 1), canvasOf(1, 1));
    const width = right - left + 1, height = bottom - top + 1;
    const bits = new Uint8Array(width * height);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        bits[y * width + x] = (pixels[((y + top) * view.width + x + left) * 4] ?? 0) < 128 ? 0 : 1;
    const paint = (is: (x: number, y: number) => boolean) => paintBits(width, height, colourOf(mask.index), is);
    const has = (x: number, y: number) => x >= 0 && y >= 0 && x < width && y < height && bits[y * width + x] === 1;
    const reach = Math.max(1, Math.round(Math.max(view.width, view.height) / 500));
    const isEdge = (x: number, y: number) =>
      has(x, y) && !(has(x - reach, y) && has(x + reach, y) && has(x, y - reach) && has(x, y + reach));
    return new MaskPixels(mask, left, top, width, height, bits, paint(has), paint(isEdge));
  }

  has(x: number, y: number): boolean {
    const column = Math.floor(x) - this.left, row = Math.floor(y) - this.top;
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return false;
    return this.bits[row * this.width + column] === 1;
  }
}

function paintBits(width: number, height: number, colour: string, is: (x: number, y: number) => boolean): HTMLCanvasElement {
  const made = canvasOf(width, height);
  const context = contextOf(made);
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  const data = context.createImageData(width, height);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at += 4) if (is(x, y)) data.data.set([red ?? 0, green ?? 0, blue ?? 0, 255], at);
  context.putImageData(data, 0, 0);
  return made;
}

export function canvasOf(width: number, height: number): HTMLCanvasElement {
  const made = document.createElement("canvas");
  made.width = width;
  made.height = height;
  return made;
}

export function contextOf(canvas: HTMLCanvasElement, reads = false): CanvasRenderingContext2D {
  const context = canvas.getContext("2d", { willReadFrequently: reads });
  if (context === null) throw new Error("this browser draws on no canvas");
  return context;
}

export interface Look { opacity: number; shown: ReadonlySet<number>; lit: number | null; cut: boolean }

/** Draw the picture with its masks, or what they cut out of it. */
export function draw(canvas: HTMLCanvasElement, picture: ImageBitmap, masks: readonly MaskPixels[], look: Look): void {
  const context = contextOf(canvas);
  const shown = masks.filter((one) => look.shown.has(one.mask.index));
  context.globalCompositeOperation = "source-over";
  context.globalAlpha = 1;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (look.cut) {
    for (const one of shown) context.drawImage(one.fill, one.left, one.top);
    context.globalCompositeOperation = "source-in";
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    const lit = shown.find((one) => one.mask.index === look.lit);
    if (lit) context.drawImage(lit.edge, lit.left, lit.top);
    return;
  }
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const isOneLit = shown.some((one) => one.mask.index === look.lit);
  for (const one of shown) {
    const isLit = one.mask.index === look.lit;
    context.globalAlpha = isLit ? Math.max(look.opacity, 0.65) : isOneLit ? look.opacity * 0.3 : look.opacity;
    context.drawImage(one.fill, one.left, one.top);
    context.globalAlpha = isOneLit && !isLit ? 0.35 : 1;
    context.drawImage(one.edge, one.left, one.top);
  }
  context.globalAlpha = 1;
}
