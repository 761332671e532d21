/** A job that runs, and how it ended: what every job says of itself. */

import { type Actions, actionRow } from "./actions";
import { add, button, el, say, set } from "./dom";
import type { JobRecord, Problem } from "./record";
import { seconds, usd, words } from "./words";

const LONG_REQUEST = 240; // characters from which its place may scroll, which keys must reach

const fact = (name: string, value: string | null): HTMLElement | null =>
  value === null || value === "" ? null : el("div", {}, el("dt", {}, name), el("dd", {}, value));

export function costWords(job: JobRecord): string {
  if (job.sandbox && !job.dryRun) return words.free;
  if (job.estimate === null) return words.costUnknown;
  const most = job.atMost !== null && job.atMost > job.estimate * 1.01 ? `, ${words.atMost(usd(job.atMost))}` : "";
  return words.estimate(usd(job.estimate)) + most;
}

const chargeWords = (job: JobRecord): string => {
  if (job.charged === null) return words.chargedUnknown;
  return job.charged === 0 ? words.chargedNothing : usd(job.charged);
};

export function header(job: JobRecord): HTMLElement {
  const chips = el("span", { class: "chips" });
  const status = job.dryRun ? words.dryRun : (words.statuses[job.status] ?? job.status);
  add(chips, el("span", { class: `chip ${job.dryRun ? "question" : job.status}` }, status));
  if (job.sandbox) add(chips, el("span", { class: "chip", title: words.sandboxHint }, words.sandbox));
  const who = [job.model, job.provider].filter(Boolean).join(" · ");
  return el("header", {}, el("h1", { tabindex: -1 }, words.tools[job.tool] ?? job.tool), chips, el("p", { class: "quiet who" }, who));
}

/** What was asked, in its own words. */
export function requestText(job: Pick<JobRecord, "request">): HTMLElement | null {
  const asked = job.request["prompt"] ?? job.request["instruction"];
  return typeof asked === "string" && asked !== "" ? el("blockquote", { dir: "auto", tabindex: asked.length > LONG_REQUEST ? 0 : null }, asked) : null;
}

export function details(job: JobRecord): HTMLElement {
  const charge = chargeWords(job);
  const facts = el(
    "dl",
    {},
    fact(words.changed, job.changes === null ? null : words.changes(job.changes)),
    fact(words.time, seconds(job.elapsed)),
    fact(words.cost, [costWords(job), job.basis].filter(Boolean).join("; ")),
    fact(words.whatWasCharged, job.dryRun ? null : charge),
    fact(words.model, job.model),
    fact(words.provider, job.provider),
    fact(words.seed, job.seed === null ? null : String(job.seed)),
    fact(words.run, job.runId),
    fact(words.job, job.id),
  );
  const made = el("details", {}, el("summary", {}, words.details), facts);
  if (job.warnings.length > 0) {
    add(made, el("h2", { class: "small" }, words.warnings), el("ul", {}, ...job.warnings.map((text) => el("li", {}, text))));
  }
  return made;
}

/** A job that is not over: its progress, which `update` moves. */
export class ProgressView {
  readonly root = el("section", { class: "job running" });
  private bar = el("div", { class: "bar", role: "progressbar", "aria-label": words.progress, "aria-valuemin": 0, "aria-valuemax": 100 });
  private fill = el("div", { class: "fill" });
  private percent = el("strong", { class: "percent" });
  private message = el("p", { class: "doing" });
  private elapsed = el("dd", { "data-elapsed": "" });
  private left = el("dd", {});
  private note = el("p", { class: "quiet", role: "status" });
  private controls = el("div", { class: "row" });
  private since = performance.now();
  private saidAt = 0;
  private timer: number;

  constructor(
    private job: JobRecord,
    private cancel: (() => Promise<void>) | null,
  ) {
    add(this.bar, this.fill);
    const expected = job.expected === null ? null : seconds(job.expected);
    const facts = el("dl", { class: "facts" }, el("div", {}, el("dt", {}, words.elapsed), this.elapsed), fact(words.expected, expected));
    if (job.expected !== null) add(facts, el("div", {}, el("dt", {}, words.left), this.left));
    add(facts, fact(words.cost, costWords(job)));
    add(this.root, el("div", { class: "line-up" }, this.percent, this.message), this.bar, facts, this.controls, this.note);
    this.offerCancel();
    this.update(job);
    this.timer = window.setInterval(() => this.showTime(), 500);
  }

  end(): void {
    clearInterval(this.timer);
  }

  update(job: JobRecord): void {
    this.job = job;
    this.since = performance.now();
    const percent = Math.round(job.progress * 100);
    this.percent.textContent = `${percent} %`;
    // The server's sentence ends with times that stand below.
    this.message.textContent = (job.message.split(/(?<=\.) /)[0] ?? job.message) || (words.statuses[job.status] ?? "");
    this.fill.style.width = `${Math.max(percent, 2)}%`;
    set(this.bar, { "aria-valuenow": percent, "aria-valuetext": `${percent} %. ${this.message.textContent}` });
    if (percent >= this.saidAt + 25) {
      this.saidAt = percent;
      say(words.saidProgress(percent));
    }
    this.showTime();
  }

  tell(text: string): void {
    this.note.textContent = text;
  }

  private showTime(): void {
    const now = this.job.elapsed + (performance.now() - this.since) / 1000;
    this.elapsed.textContent = seconds(now);
    if (this.job.expected === null) return;
    const left = this.job.expected - now;
    this.left.textContent = left > 0 ? seconds(left) : words.longer;
  }

  private offerCancel(): void {
    if (this.cancel === null) return;
    this.controls.replaceChildren(button(words.cancel, () => this.askCancel(), { class: "stop" }));
  }

  private askCancel(): void {
    const yes = button(words.cancelYes, () => void this.carryOut(), { class: "stop" });
    const no = button(words.cancelNo, () => this.offerCancel());
    this.controls.replaceChildren(el("span", { role: "alert" }, words.cancelSure), yes, no);
    no.focus();
  }

  private async carryOut(): Promise<void> {
    this.controls.replaceChildren(el("span", { role: "status" }, words.cancelling));
    try {
      await this.cancel?.();
    } catch (error) {
      this.tell(error instanceof Error ? error.message : String(error));
      this.offerCancel();
    }
  }
}

/** A job that ended without what it was to give, or a plan that nothing was run for. */
export function outcome(job: JobRecord, actions: Actions): HTMLElement {
  const made = el("section", { class: `job outcome ${job.status}` });
  if (job.dryRun) {
    add(made, el("p", { class: "lead" }, costWords(job)), el("p", { class: "quiet" }, job.basis));
    if (job.plan !== "") add(made, el("h2", { class: "small" }, words.plan), el("pre", { tabindex: 0, "aria-label": words.plan }, job.plan));
  } else {
    const lead = job.error?.message || job.message || (words.statuses[job.status] ?? "");
    add(made, el("p", { class: "lead" }, lead), job.error?.hint ? el("p", {}, job.error.hint) : null);
    add(made, el("p", { class: "quiet" }, `${words.whatWasCharged}: ${chargeWords(job)}${job.error?.code ? ` · ${job.error.code}` : ""}`));
  }
  if (job.text !== "") add(made, el("p", { class: "prose", dir: "auto" }, job.text));
  // Where all went well it is for the assistant.
  if (job.nextStep && (job.dryRun || job.status !== "succeeded") && job.nextStep !== job.error?.hint) add(made, el("p", {}, el("strong", {}, `${words.nextStep}: `), job.nextStep));
  if (job.files.length > 0) {
    add(made, el("h2", { class: "small" }, words.files));
    add(made, actionRow(words.files, job.files.map((file, n) => [words.fileOf(n + 1, file.contentType), () => void actions.saveFile(`file-${n + 1}`, file)] as const)));
  }
  add(made, actions.note);
  return made;
}

/** A refusal: nothing was begun. */
export function problemView(problem: Problem, tool: string): HTMLElement {
  const made = el("section", { class: "job outcome failed", role: "alert" });
  add(made, el("h1", { tabindex: -1 }, words.refused(words.tools[tool] ?? words.job)));
  const [lead = "", ...rest] = problem.message.split(/(?<=[.!?]) (?=\p{Lu})/u);
  add(made, el("p", { class: "lead", dir: "auto" }, lead), rest.length > 0 ? el("p", {}, rest.join(" ")) : null);
  if (problem.code !== "") add(made, el("p", { class: "quiet" }, problem.code));
  return made;
}
