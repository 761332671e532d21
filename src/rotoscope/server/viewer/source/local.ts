/** A host inside the page, where there is no other: it asks the server that the page came from, or reads the report. */

import { type Message, type Params, PROTOCOL, type Transport } from "./host";
import { words } from "./words";

interface Data { mode?: "local" | "report"; job?: string; media_origins?: string[]; record?: Params; files?: Record<string, { type: string; data: string }> }

export interface PageData { mode: "host" | "local" | "report"; leftOut: string[]; made: string; data: Data }

export function readPageData(): PageData {
  const raw = JSON.parse(document.getElementById("rotoscope-data")?.textContent || "{}") as Data & Params;
  const leftOut = Array.isArray(raw["left_out"]) ? raw["left_out"].map(String) : [];
  return { mode: raw.mode ?? "host", leftOut, made: String(raw["made"] ?? ""), data: raw };
}

type Answer = (params: Params) => Promise<Params>;

export class LocalTransport implements Transport {
  private give: (message: Message) => void = () => {};

  constructor(private page: PageData) {}

  listen(take: (message: Message) => void): void {
    this.give = take;
  }

  send(message: Message): void {
    if (message.method === "ui/notifications/initialized") void this.begin();
    if (message.id === undefined || message.method === undefined) return;
    const { id, method } = message;
    this.answer(method, message.params ?? {}).then(
      (result) => this.give({ jsonrpc: "2.0", id, result }),
      (error: Error) => this.give({ jsonrpc: "2.0", id, error: { code: -32000, message: error.message } }),
    );
  }

  private answer(method: string, params: Params): Promise<Params> {
    const known: Record<string, Answer> = {
      "ui/initialize": async () => this.describe(),
      "ui/open-link": async ({ url }) => (window.open(String(url), "_blank", "noopener"), {}),
      "ui/download-file": async (asked) => saveFiles(asked),
      "tools/call": (asked) => this.ask("tools/call", asked),
      "resources/read": (asked) => this.read(asked),
    };
    const found = known[method];
    return found ? found(params) : Promise.reject(new Error(`There is no ${method} here.`));
  }

  private describe(): Params {
    const origin = location.origin;
    const here = { connectDomains: [origin], resourceDomains: [origin, ...(this.page.data.media_origins ?? [])] };
    const asks = this.page.mode === "local" ? { serverTools: {}, sandbox: { csp: here } } : {};
    return {
      protocolVersion: PROTOCOL,
      hostInfo: { name: this.page.mode, version: "1" },
      hostCapabilities: { openLinks: {}, downloadFile: {}, serverResources: {}, ...asks },
      hostContext: { displayMode: "fullscreen" },
    };
  }

  private async begin(): Promise<void> {
    if (this.page.mode === "report") {
      this.give(result({ structuredContent: this.page.data.record ?? {} }));
      return;
    }
    void this.stay();
    try {
      const read = await this.ask("resources/read", { uri: `job://${this.page.data.job ?? ""}` });
      const contents = (read["contents"] as Params[] | undefined)?.[0];
      this.give(result({ structuredContent: JSON.parse(String(contents?.["text"] ?? "{}")) as Params }));
    } catch (error) {
      const text = error instanceof Error ? error.message : words.serverGone;
      this.give(result({ isError: true, content: [{ type: "text", text }] }));
    }
  }

  /** A request that stays open as long as the page does: by its end the server knows that the page was closed. */
  private async stay(): Promise<void> {
    for (;;) {
      try {
        const answer = await fetch("alive", { method: "POST" });
        await answer.text();
      } catch {
        // asked again below
      }
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }

  private async ask(method: string, params: Params): Promise<Params> {
    if (this.page.mode !== "local") throw new Error("A report asks no server.");
    const body = JSON.stringify({ method, params });
    const answer = await fetch("rpc", { method: "POST", headers: { "content-type": "application/json" }, body }).catch(
      () => {
        throw new Error(words.serverGone);
      },
    );
    const given = (await answer.json()) as Params;
    if (given["error"] !== undefined) throw new Error(String((given["error"] as Params)["message"]));
    return given["result"] as Params;
  }

  private async read(asked: Params): Promise<Params> {
    if (this.page.mode === "local") return this.ask("resources/read", asked);
    const file = this.page.data.files?.[String(asked["uri"])];
    if (file === undefined) throw new Error("This file is not in the report.");
    return { contents: [{ uri: asked["uri"], mimeType: file.type, blob: file.data }] };
  }
}

const result = (params: Params): Message => ({ jsonrpc: "2.0", method: "ui/notifications/tool-result", params });

function saveFiles(asked: Params): Params {
  for (const one of (asked["contents"] as Params[]) ?? []) {
    const held = (one["resource"] as Params) ?? {};
    const data = Uint8Array.from(atob(String(held["blob"] ?? "")), (character) => character.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([data], { type: String(held["mimeType"] ?? "") }));
    const link = document.createElement("a");
    link.href = url;
    link.download = String(held["uri"] ?? "").split("/").at(-1) || "file";
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
  return {};
}
