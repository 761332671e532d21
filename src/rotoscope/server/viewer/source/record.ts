/** A job as results tell it, read with care: what has another shape than it should is left out. */

export interface Box { left: number; top: number; right: number; bottom: number }
export interface MediaFile {
  url: string; path: string; uri: string; contentType: string; size: number;
  width: number | null; height: number | null;
  seconds: number; frameRate: number; hasAudio: boolean;
}
export interface Mask { index: number; label: string; score: number | null; box: Box | null; area: number; media: MediaFile }
export interface Segment { start: number; end: number; mask: number }
export interface Input { argument: string; uri: string; url: string; contentType: string }
export interface Problem { code: string; message: string; hint: string }
export interface Changes { inside: number | null; outside: number | null; psnr: number | null; frames: number; restored: boolean }
export interface JobRecord {
  id: string; status: string; tool: string; model: string; provider: string; sandbox: boolean;
  progress: number; message: string; elapsed: number; expected: number | null;
  estimate: number | null; atMost: number | null; charged: number | null; basis: string;
  seed: number | null; request: Record<string, unknown>; warnings: string[]; nextStep: string;
  error: Problem | null; dryRun: boolean; runId: string; plan: string;
  masks: Mask[]; masksTotal: number; overlay: MediaFile | null; coco: MediaFile | null;
  text: string; segments: Segment[];
  maskFilm: MediaFile | null; video: MediaFile | null; poster: MediaFile | null; filmstrip: MediaFile | null;
  files: MediaFile[]; inputs: Input[]; changes: Changes | null;
}

type Raw = Record<string, unknown>;

const object = (value: unknown): Raw | null =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Raw) : null;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const number = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;

function file(value: unknown): MediaFile | null {
  const raw = object(value);
  if (raw === null || !text(raw["uri"])) return null;
  return {
    url: text(raw["url"]), path: text(raw["path"]), uri: text(raw["uri"]), contentType: text(raw["content_type"]),
    size: number(raw["file_size"]) ?? 0, width: number(raw["width"]), height: number(raw["height"]),
    seconds: number(raw["duration_seconds"]) ?? 0, frameRate: number(raw["frame_rate"]) ?? 25,
    hasAudio: raw["has_audio"] === true,
  };
}

function box(value: unknown): Box | null {
  const raw = object(value);
  if (raw === null) return null;
  const [left, top, right, bottom] = ["left", "top", "right", "bottom"].map((name) => number(raw[name]));
  if (left == null || top == null || right == null || bottom == null) return null;
  return { left, top, right, bottom };
}

function mask(value: unknown, index: number): Mask | null {
  const raw = object(value);
  const media = raw && file(raw["media"]);
  if (!raw || !media) return null;
  return {
    index, label: text(raw["label"]) || `${index}`, score: number(raw["score"]), box: box(raw["box"]),
    area: number(raw["area"]) ?? 0, media,
  };
}

/** Offsets count characters as Python does; a string here counts some of them twice. */
function segments(value: unknown, whole: string): Segment[] {
  const places: number[] = [0];
  for (const character of whole) places.push((places.at(-1) ?? 0) + character.length);
  const found: Segment[] = [];
  let last = 0;
  const raws = list(value).map(object).filter((raw): raw is Raw => raw !== null);
  for (const raw of raws.sort((a, b) => (number(a["start"]) ?? 0) - (number(b["start"]) ?? 0))) {
    const start = places[number(raw["start"]) ?? -1], end = places[number(raw["end"]) ?? -1];
    const shown = number(raw["mask"]);
    if (start === undefined || end === undefined || shown === null || start < last || end <= start) continue;
    found.push({ start, end, mask: shown });
    last = end;
  }
  return found;
}

function input(value: unknown): Input | null {
  const raw = object(value);
  if (raw === null || !text(raw["uri"])) return null;
  return {
    argument: text(raw["argument"]), uri: text(raw["uri"]), url: text(raw["url"]),
    contentType: text(raw["content_type"]),
  };
}

function changes(value: unknown): Changes | null {
  const raw = object(value);
  if (raw === null) return null;
  return {
    inside: number(raw["changed_inside"]), outside: number(raw["changed_outside"]), psnr: number(raw["psnr_outside_db"]),
    frames: number(raw["frames_compared"]) ?? 0, restored: raw["outside_restored"] === true,
  };
}

const MOST_PLAN = 6000; // characters that a person may want to read

/** The request that a dry run shows, as text. */
function plan(raw: Raw): string {
  const request = object(raw["planned_request"]), given = object(raw["planned_input"]);
  const shown = request ? object(request["body"]) ?? given : given;
  if (shown === null) return "";
  const head = request ? `${text(request["method"])} ${text(request["url"])}\n` : "";
  const whole = head + JSON.stringify(shown, null, 2);
  return whole.length > MOST_PLAN ? `${whole.slice(0, MOST_PLAN)}…` : whole;
}

const CODE = /^([a-z][a-z_]{2,40}): (.+)$/s;

/** What a tool's refusal says: its code, and its words. */
export function readProblem(said: string): Problem {
  const found = CODE.exec(said);
  return { code: found?.[1] ?? "", message: found?.[2] ?? said, hint: "" };
}

const present = <T>(values: (T | null)[]): T[] => values.filter((value): value is T => value !== null);

/** The record in a structured result; null where it is none. */
export function readRecord(value: unknown): JobRecord | null {
  const raw = object(value);
  if (raw === null || typeof raw["status"] !== "string" || typeof raw["tool"] !== "string") return null;
  const cost = object(raw["cost"]) ?? {}, error = object(raw["error"]), run = object(raw["provider_run"]);
  const masks = present(list(raw["masks"]).map(mask));
  const said = text(raw["text"]);
  return {
    id: text(raw["job_id"]), status: raw["status"], tool: raw["tool"], model: text(raw["model"]),
    provider: text(raw["provider"]), sandbox: raw["sandbox"] === true, progress: number(raw["progress"]) ?? 0,
    message: text(raw["message"]), elapsed: number(raw["elapsed_seconds"]) ?? 0,
    expected: number(raw["expected_seconds"]), estimate: number(cost["estimate_usd"]),
    atMost: number(cost["at_most_usd"]), charged: number(cost["charged_usd"]), basis: text(cost["basis"]),
    seed: number(raw["seed"]), request: object(raw["request"]) ?? {}, warnings: list(raw["warnings"]).map(text),
    nextStep: text(raw["next_step"]), plan: plan(raw), dryRun: raw["dry_run"] === true, runId: run ? text(run["id"]) : "",
    error: error && { code: text(error["code"]), message: text(error["message"]), hint: text(error["hint"]) },
    masks, masksTotal: number(raw["masks_total"]) ?? masks.length, overlay: file(raw["overlay"]),
    coco: file(raw["coco"]), text: said, segments: segments(raw["segments"], said),
    // Of an object that was followed through a clip the painted film is what is played.
    maskFilm: file(raw["mask"]), video: file(raw["video"]) ?? (raw["mask"] ? file(raw["overlay"]) : null), poster: file(raw["poster"]), filmstrip: file(raw["filmstrip"]),
    files: present(list(raw["files"]).map(file)), inputs: present(list(raw["inputs"]).map(input)),
    changes: changes(raw["changes"]),
  };
}

/** Where a person finds a file: on the server's machine, by its address, or by its link. */
export const placeOf = (file: MediaFile | null): string => (file === null ? "" : file.path || file.url || file.uri);

export const isOpen = (job: JobRecord): boolean => job.status === "queued" || job.status === "running";
