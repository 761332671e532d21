/** The page: takes what its host gives, shows the job, and asks about it until it is over. */

import { Actions } from "./actions";
import { add, button, el, say, set } from "./dom";
import { FilmView } from "./film";
import { Host, HostError, ParentTransport, type Params } from "./host";
import { details, header, outcome, problemView, ProgressView, requestText } from "./job";
import { LocalTransport, readPageData } from "./local";
import { Media } from "./media";
import { PictureView } from "./picture";
import { type Ask, askIn, Caller, priceQuestion, textOf } from "./question";
import { isOpen, type JobRecord, readProblem, readRecord } from "./record";
import { words } from "./words";

const VERSION = "1";
const WAIT_SECONDS = 5; // of each question about a job
const PATIENCE = 10_000; // milliseconds for the chat's first answer
const PAUSE = 1000, LONGEST_PAUSE = 30_000; // milliseconds between two questions

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

class Viewer {
  private page = readPageData();
  private host = new Host(this.page.mode === "host" ? new ParentTransport() : new LocalTransport(this.page));
  private media = new Media(this.host);
  private caller = new Caller(this.host);
  private given: Params = {}; // the arguments of the call whose result is shown
  private view = document.getElementById("view") as HTMLElement;
  private progress: ProgressView | null = null;
  private shown: JobRecord | null = null;
  private before: JobRecord[] = [];
  private watched = "";

  async start(): Promise<void> {
    this.tell(words.opening);
    const { host } = this;
    host.on("ui/notifications/tool-input-partial", () => this.shown ?? this.tell(words.waitingForTool));
    host.on("ui/notifications/tool-input", (params) => {
      this.given = (params["arguments"] as Params | undefined) ?? {};
      this.shown ?? this.tell(words.waitingForTool);
    });
    host.on("ui/notifications/tool-result", (params) => void this.take(params));
    host.on("ui/notifications/tool-cancelled", () => this.shown ?? this.tell(words.toolCancelled));
    host.on("ui/notifications/host-context-changed", (params) => this.dress(params));
    const silence = setTimeout(() => this.tell(words.hostSilent), PATIENCE);
    await host.start(VERSION);
    clearTimeout(silence);
    this.dress(host.context);
    const size = new ResizeObserver(() => {
      const { width, height } = document.documentElement.getBoundingClientRect();
      host.notify("ui/notifications/size-changed", { width: Math.ceil(width), height: Math.ceil(height) });
    });
    size.observe(document.documentElement);
  }

  /** Look as the host does: light or dark, its colours and its type. */
  private dress(context: Params): void {
    const top = document.documentElement;
    if (context["theme"] === "light" || context["theme"] === "dark") top.dataset["theme"] = context["theme"];
    if (typeof context["locale"] === "string" && context["displayMode"]) top.dataset["display"] = String(context["displayMode"]);
    const variables = (context["styles"] as Params | undefined)?.["variables"] as Params | undefined;
    for (const [name, value] of Object.entries(variables ?? {})) {
      if (/^--[a-z0-9-]+$/.test(name) && typeof value === "string") top.style.setProperty(name, value);
    }
    const safe = context["safeAreaInsets"] as Record<string, number> | undefined;
    if (safe) top.style.padding = ["top", "right", "bottom", "left"].map((side) => `${safe[side] ?? 0}px`).join(" ");
  }

  private tell(text: string): void {
    this.view.replaceChildren(el("p", { class: "quiet empty" }, text));
  }

  /** A tool's result, from the host or from a call of our own. */
  private async take(result: Params): Promise<void> {
    const record = readRecord(result["structuredContent"]);
    if (record === null) {
      if (this.shown === null) this.takeWords(result);
      return;
    }
    this.media.takePreview(record.id, result);
    await this.show(record);
  }

  /** A result without a job: a question about a price, a refusal, or words alone. */
  private takeWords(result: Params): void {
    const question = priceQuestion(result), said = textOf(result), tool = this.host.toolName;
    if (question !== "") void this.askPrice(question, result);
    else if (result["isError"] === true) this.view.replaceChildren(problemView(readProblem(said), tool), ...this.footer());
    else this.tell(said || words.noResult);
  }

  /** The call that the assistant made waits for a yes to its price: here it takes one click. */
  private async askPrice(question: string, asked: Params): Promise<void> {
    const { host } = this, tool = host.toolName;
    const place = el("div"), note = el("p", { class: "quiet", role: "status" });
    const title = el("header", {}, el("h1", { tabindex: -1 }, words.tools[tool] ?? words.job), el("span", { class: "chip question" }, words.priceChip));
    this.view.replaceChildren(...[title, requestText({ request: this.given }), place, note].filter((part) => part !== null));
    set(this.view, { "data-status": "question" });
    if (tool === "" || !host.can("serverTools")) return this.passOn(question, place, note);
    const ask: Ask = async (text) => {
      const isYes = await askIn(place)(text);
      note.textContent = isYes ? words.priceSent : words.priceRefused;
      return isYes;
    };
    try {
      const made = await this.caller.call(tool, this.given, ask, asked);
      if (made === null) return;
      const text = words.agreedContext(`job://${made.record.id}`);
      host.request("ui/update-model-context", { content: [{ type: "text", text }] }).catch(() => {});
      await this.take(made.answer);
    } catch (error) {
      note.textContent = error instanceof Error ? error.message : String(error);
      note.classList.add("bad");
    }
  }

  /** Where the page may call no tool, the yes is the person's next message. */
  private passOn(question: string, place: HTMLElement, note: HTMLElement): void {
    add(place, el("p", { class: "lead" }, question));
    if (this.host.can("message")) {
      const actions = new Actions(this.host, this.media, this.page.mode);
      add(place, el("div", { class: "row" }, button(words.priceYes, () => void actions.message(words.agreeMessage), { class: "main" })), actions.note);
    } else note.textContent = words.answerInChat;
  }

  private async show(given: JobRecord): Promise<void> {
    if (isOpen(given)) {
      this.showProgress(given);
      if (this.host.can("serverTools") && given.id) void this.watch(given.id);
      return;
    }
    const job = await this.complete(given);
    const was = this.shown;
    this.progress?.end();
    this.progress = null;
    this.shown = job;
    const actions = new Actions(this.host, this.media, this.page.mode);
    const parts: (HTMLElement | null)[] = [header(job), requestText(job)];
    let load = async (): Promise<void> => {};
    if (job.status === "succeeded" && !job.dryRun && job.video !== null) {
      const film = new FilmView(job, job.video, actions, this.host);
      parts.push(film.root);
      load = () => film.load();
    } else if (job.status === "succeeded" && !job.dryRun && (job.masks.length > 0 || job.overlay !== null)) {
      const picture = new PictureView(job, actions, this.host.can("serverTools") ? (args, ask) => this.segment(args, ask) : null);
      parts.push(picture.root);
      load = () => picture.load();
    } else parts.push(outcome(job, actions));
    if (this.before.length > 0) parts.push(button(words.back, () => void this.goBack(), { class: "link" }));
    this.view.replaceChildren(...parts.filter((part) => part !== null), details(job), ...this.footer());
    if (was !== null && isOpen(was)) say(endWords(job));
    set(this.view, { "data-status": job.status });
    await load();
  }

  private footer(): HTMLElement[] {
    const { made, leftOut } = this.page;
    const parts: HTMLElement[] = [];
    if (leftOut.length > 0) {
      parts.push(el("section", { class: "left-out" }, el("h2", { class: "small" }, words.leftOut), el("ul", {}, ...leftOut.map((text) => el("li", {}, text)))));
    }
    if (made) parts.push(el("p", { class: "quiet" }, words.reportMade(made)));
    return parts;
  }

  private showProgress(job: JobRecord): void {
    const isNew = this.progress === null || this.shown?.id !== job.id;
    this.shown = job;
    if (!isNew) {
      this.progress?.update(job);
      return;
    }
    this.progress?.end();
    const cancel = this.host.can("serverTools") && job.id ? () => this.cancel(job.id) : null;
    this.progress = new ProgressView(job, cancel);
    if (cancel === null) this.progress.tell(words.noWatch);
    this.view.replaceChildren(...[header(job), requestText(job), this.progress.root, details(job)].filter((part) => part !== null));
    set(this.view, { "data-status": job.status });
  }

  /** Everything about a job, as its resource has it: results are cut to what a chat carries. */
  private async complete(job: JobRecord): Promise<JobRecord> {
    if (!job.id || this.page.mode === "report") return job;
    try {
      const answer = await this.media.read(`job://${job.id}`);
      const found = (answer["contents"] as Params[] | undefined)?.[0];
      const whole = readRecord(JSON.parse(String(found?.["text"] ?? "null")));
      return whole !== null && !isOpen(whole) ? whole : job;
    } catch {
      return job;
    }
  }

  /** Ask about a job until it is over. */
  private async watch(id: string): Promise<void> {
    if (this.watched === id) return;
    this.watched = id;
    let wait = PAUSE;
    while (this.watched === id) {
      await pause(document.hidden ? Math.max(wait, 5 * PAUSE) : wait);
      try {
        const answer = await this.host.callTool("get_job", { job_id: id, wait_seconds: WAIT_SECONDS });
        const job = readRecord(answer["structuredContent"]);
        if (job === null) throw new HostError(textOf(answer));
        if (this.shown?.id !== id) return;
        this.media.takePreview(id, answer);
        this.progress?.tell("");
        wait = PAUSE;
        if (!isOpen(job)) this.watched = "";
        await this.show(job);
      } catch (error) {
        const why = error instanceof Error ? error.message : "";
        this.progress?.tell([words.pollFailed, why].filter(Boolean).join(" "));
        wait = Math.min(wait * 2, LONGEST_PAUSE);
      }
    }
  }

  private async cancel(id: string): Promise<void> {
    const answer = await this.host.callTool("cancel_job", { job_id: id });
    const job = readRecord(answer["structuredContent"]);
    if (job === null) throw new HostError(textOf(answer));
    await this.show(job);
  }

  private async segment(args: Params, ask: Ask): Promise<void> {
    const made = await this.caller.call("segment_image", args, ask);
    if (made === null) return;
    const job = made.record;
    this.media.takePreview(job.id, made.answer);
    if (this.shown !== null) this.before.push(this.shown);
    const text = words.correctedContext(`job://${job.id}`);
    this.host.request("ui/update-model-context", { content: [{ type: "text", text }] }).catch(() => {});
    await this.show(job);
    (this.view.querySelector("h1") as HTMLElement | null)?.focus();
  }

  private async goBack(): Promise<void> {
    const job = this.before.pop();
    this.watched = "";
    if (job !== undefined) await this.show(job);
  }
}

function endWords(job: JobRecord): string {
  const said: Record<string, string> = {
    succeeded: words.saidDone, failed: words.saidFailed, cancelled: words.saidCancelled, needs_review: words.saidReview,
  };
  return said[job.status] ?? "";
}

void new Viewer().start();
