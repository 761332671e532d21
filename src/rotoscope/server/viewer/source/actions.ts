/** What a person can do with a result: keep a file, copy it, hand it to the chat. */

import { add, button, el, say } from "./dom";
import type { Host } from "./host";
import { encode, type Media } from "./media";
import type { JobRecord, MediaFile } from "./record";
import { words } from "./words";

export class Actions {
  /** Where it is said what became of an action. */
  readonly note = el("p", { class: "note", role: "status", hidden: true });

  constructor(
    private host: Host,
    readonly media: Media,
    readonly mode: "host" | "local" | "report",
  ) {}

  tell(text: string, ...more: Node[]): void {
    this.note.hidden = false;
    this.note.replaceChildren(text, ...more);
  }

  /** Save bytes as a file, by the host where it does that. */
  async save(name: string, blob: Blob, file: MediaFile | null = null): Promise<void> {
    const contents = [
      { type: "resource", resource: { uri: `file:///${name}`, mimeType: blob.type, blob: await encode(blob) } },
    ];
    try {
      if (!this.host.can("downloadFile")) throw new Error("not by this host");
      const answer = await this.host.request("ui/download-file", { contents });
      if (answer["isError"] === true) throw new Error("refused");
      this.tell(words.downloaded(name));
    } catch {
      if (file !== null && /^https?:/.test(file.url) && (await this.open(file.url))) return;
      const url = URL.createObjectURL(blob);
      const link = el("a", { href: url, download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      this.tell(file === null ? words.downloaded(name) : words.downloadHint(file.path || file.url || file.uri));
    }
  }

  async saveFile(name: string, file: MediaFile): Promise<void> {
    try {
      await this.save(name, await this.media.load(file), file);
    } catch {
      if (/^https?:/.test(file.url) && (await this.open(file.url))) return;
      this.tell(words.fileAt(file.path || file.url || file.uri));
    }
  }

  /** Open an address outside of the page; whether the host did. */
  async open(url: string): Promise<boolean> {
    try {
      return (await this.host.request("ui/open-link", { url }))["isError"] !== true;
    } catch {
      return false;
    }
  }

  async copy(text: string, done: string = words.copied): Promise<void> {
    const policy = (document as Document & { featurePolicy?: { allowsFeature(name: string): boolean } }).featurePolicy;
    try {
      if (policy?.allowsFeature("clipboard-write") === false) throw new Error("not in this frame");
      await navigator.clipboard.writeText(text);
      this.tell(done);
    } catch {
      this.offerText(text, done);
    }
  }

  async copyFile(file: MediaFile): Promise<void> {
    try {
      await this.copy(await this.media.text(file));
    } catch {
      this.tell(words.fileAt(file.path || file.url || file.uri));
    }
  }

  /** Send the person's next message to the chat; where there is no chat, give its words. */
  async message(text: string): Promise<void> {
    try {
      if (!this.host.can("message") && this.mode !== "host") throw new Error("no chat");
      const answer = await this.host.request("ui/message", { role: "user", content: [{ type: "text", text }] });
      if (answer["isError"] === true) throw new Error("refused");
      this.tell(words.messageSent);
    } catch {
      await this.copy(text, words.messageCopied);
    }
  }

  private offerText(text: string, done: string): void {
    const field = el("textarea", { readonly: true, rows: 3, "aria-label": words.copyByHand });
    field.value = text;
    this.tell("", field);
    field.select();
    let copied = false;
    try {
      copied = document.execCommand("copy"); // where the newer way is not let in
    } catch {
      // the person copies it
    }
    if (copied) this.tell(done);
    else {
      add(this.note, el("span", {}, words.copyByHand));
      say(words.copyByHand);
    }
  }
}

/** A row of buttons under a heading. */
export function actionRow(title: string, actions: readonly (readonly [string, () => void, string?])[]): HTMLElement {
  const row = el("div", { class: "row", role: "group", "aria-label": title });
  for (const [text, act, kind] of actions) add(row, button(text, act, { class: kind ?? "" }));
  return row;
}

export const shortName = (job: JobRecord): string => `rotoscope-${(job.id || "result").slice(0, 8)}`;
