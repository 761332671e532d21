/** Bytes of files: from their address where the host lets the page reach it, else through the host. */

import type { Host, Params } from "./host";
import { words } from "./words";

export interface Source { uri: string; url: string; contentType: string }

/** Bytes that a message can carry; the server gives no more. */
export const MAX_MESSAGE = 8 * 1024 * 1024;

const PATIENCE = 30_000; // milliseconds for a file through the host
const SHORT_PATIENCE = 5_000; // where the host does not say that it reads resources
const LOADING = 15_000; // milliseconds for a picture by its address

export class Media {
  /** Small pictures that came with results, by job: what stands in where nothing can be read. */
  private previews = new Map<string, Blob>();
  private kept = new Map<string, Promise<Blob>>();
  private isSilent = false;

  constructor(private host: Host) {}

  /** The bytes of a file. Each is fetched once. */
  load(source: Source): Promise<Blob> {
    const known = this.kept.get(source.uri);
    if (known !== undefined) return known;
    const made = this.fetch(source);
    this.kept.set(source.uri, made);
    made.catch(() => this.kept.delete(source.uri));
    return made;
  }

  /** A picture, upright, for drawing on a canvas: no policy is asked for that. */
  async picture(source: Source): Promise<ImageBitmap> {
    try {
      return await createImageBitmap(await this.load(source));
    } catch (error) {
      // A host may let in pictures of an address and not say so: the last thing to try.
      if (!/^https?:/.test(source.url)) throw error;
      return createImageBitmap(await this.image(source.url));
    }
  }

  /** A picture by its address, in a way that leaves the canvas readable. */
  private image(url: string): Promise<HTMLImageElement> {
    return new Promise((resolve, reject) => {
      const made = new Image();
      const refuse = () => reject(new Error(words.noAnswer));
      const timer = setTimeout(refuse, LOADING);
      made.crossOrigin = "anonymous";
      made.onload = () => (clearTimeout(timer), resolve(made));
      made.onerror = () => (clearTimeout(timer), refuse());
      made.src = url;
    });
  }

  /** Keep the picture of a tool's result, if there is one. */
  takePreview(job: string, result: Params): void {
    try {
      this.previews.set(job, viewOf(result));
    } catch {
      // it came without one
    }
  }

  /** The small picture that came with the result of a job. */
  async preview(job: string): Promise<ImageBitmap | null> {
    const kept = this.previews.get(job);
    return kept === undefined ? null : createImageBitmap(kept).catch(() => null);
  }

  async text(source: Source): Promise<string> {
    return (await this.load(source)).text();
  }

  private async fetch(source: Source): Promise<Blob> {
    // The server lets pages of others read pictures alone.
    const isOpen = source.contentType.startsWith("image/") || source.url.startsWith(`${location.origin}/`);
    if (isOpen && this.host.reaches(source.url, "connectDomains")) {
      try {
        const answer = await fetch(source.url);
        if (answer.ok) return await answer.blob();
      } catch {
        // its bytes come through the host
      }
    }
    try {
      return blobOf(await this.read(source.uri));
    } catch (error) {
      if (!this.host.can("serverTools")) throw error;
      return viewOf(await this.host.callTool("view_media", { uri: source.uri }));
    }
  }

  /** Read a resource. A host that does not say that it can is tried once: some can all the same. */
  async read(uri: string): Promise<Params> {
    if (this.host.can("serverResources")) return this.host.request("resources/read", { uri }, PATIENCE);
    if (this.isSilent) throw new Error(words.noAnswer);
    try {
      return await this.host.request("resources/read", { uri }, SHORT_PATIENCE);
    } catch (error) {
      this.isSilent = true;
      throw error;
    }
  }
}

function blobOf(answer: Params): Blob {
  const found = (answer["contents"] as Params[] | undefined)?.[0];
  const type = String(found?.["mimeType"] ?? "");
  if (typeof found?.["text"] === "string") return new Blob([found["text"]], { type });
  if (typeof found?.["blob"] !== "string") throw new Error("no content");
  return decode(found["blob"], type);
}

/** The small picture that view_media gives: for hosts that read no resources. */
function viewOf(answer: Params): Blob {
  const found = ((answer["content"] as Params[] | undefined) ?? []).find((block) => block["type"] === "image");
  if (typeof found?.["data"] !== "string") throw new Error("no picture");
  return decode(found["data"], String(found["mimeType"] ?? "image/jpeg"));
}

function decode(base64: string, type: string): Blob {
  const text = atob(base64);
  const data = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) data[n] = text.charCodeAt(n);
  return new Blob([data], { type });
}

export async function encode(blob: Blob): Promise<string> {
  const data = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let n = 0; n < data.length; n += 0x8000) text += String.fromCharCode(...data.subarray(n, n + 0x8000));
  return btoa(text);
}

export async function dataUrl(blob: Blob): Promise<string> {
  return `data:${blob.type};base64,${await encode(blob)}`;
}
