/** The page's side of MCP Apps: JSON-RPC 2.0 with the host that shows it. */

import { words } from "./words";

export const PROTOCOL = "2026-01-26";

export type Params = Record<string, unknown>;
export interface Message { jsonrpc: "2.0"; id?: number | string; method?: string; params?: Params; result?: unknown; error?: unknown }
export interface Transport { send(message: Message): void; listen(take: (message: Message) => void): void }

/** The window that holds this page. */
export class ParentTransport implements Transport {
  send(message: Message): void {
    window.parent.postMessage(message, "*"); // the host's origin is not known to a page like this
  }
  listen(take: (message: Message) => void): void {
    window.addEventListener("message", (event) => {
      if (event.source === window.parent && event.data?.jsonrpc === "2.0") take(event.data as Message);
    });
  }
}

export class HostError extends Error {}

type Waiting = { resolve: (value: Params) => void; reject: (error: Error) => void };

export class Host {
  capabilities: Params = {};
  context: Params = {};
  private next = 1;
  private waiting = new Map<number | string, Waiting>();
  private takers = new Map<string, (params: Params) => void>();

  constructor(private transport: Transport) {
    transport.listen((message) => this.take(message));
  }

  /** Call a function for a message of the host. */
  on(method: string, taker: (params: Params) => void): void {
    this.takers.set(method, taker);
  }

  /** Ask the host; where a limit is given, it is given up after so many milliseconds. */
  request(method: string, params: Params = {}, limit = 0): Promise<Params> {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      if (limit > 0) setTimeout(() => this.waiting.delete(id) && reject(new HostError(words.noAnswer)), limit);
      this.transport.send({ jsonrpc: "2.0", id, method, params });
    });
  }

  notify(method: string, params: Params = {}): void {
    this.transport.send({ jsonrpc: "2.0", method, params });
  }

  async start(version: string): Promise<void> {
    const answer = await this.request("ui/initialize", {
      protocolVersion: PROTOCOL,
      appInfo: { name: "rotoscope viewer", version },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
    });
    this.capabilities = (answer["hostCapabilities"] as Params) ?? {};
    this.context = (answer["hostContext"] as Params) ?? {};
    this.notify("ui/notifications/initialized");
  }

  /** Whether the host says that it can do something. One that says nothing at all is tried. */
  can(name: string): boolean {
    return Object.keys(this.capabilities).length === 0 || name in this.capabilities;
  }

  /** Whether the host has let the page reach an address, by `connectDomains` or `resourceDomains`. */
  reaches(url: string, kind: "connectDomains" | "resourceDomains"): boolean {
    if (!/^https?:\/\//.test(url)) return false;
    const csp = ((this.capabilities["sandbox"] as Params)?.["csp"] as Params)?.[kind];
    return Array.isArray(csp) && csp.includes(new URL(url).origin);
  }

  callTool(name: string, args: Params): Promise<Params> {
    return this.request("tools/call", { name, arguments: args });
  }

  /** The tool whose result is shown, if the host names it. */
  get toolName(): string {
    const tool = (this.context["toolInfo"] as Params | undefined)?.["tool"] as Params | undefined;
    return typeof tool?.["name"] === "string" ? tool["name"] : "";
  }

  private take(message: Message): void {
    if (message.method !== undefined) {
      if (message.method === "ui/resource-teardown" || message.method === "ping") {
        this.transport.send({ jsonrpc: "2.0", id: message.id ?? 0, result: {} });
      }
      this.takers.get(message.method)?.(message.params ?? {});
      return;
    }
    const waiting = message.id === undefined ? undefined : this.waiting.get(message.id);
    if (message.id === undefined || waiting === undefined) return;
    this.waiting.delete(message.id);
    if (message.error !== undefined) {
      const said = (message.error as Params)?.["message"];
      waiting.reject(new HostError(typeof said === "string" ? said : "refused"));
    } else waiting.resolve((message.result as Params) ?? {});
  }
}
