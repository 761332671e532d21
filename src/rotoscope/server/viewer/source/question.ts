/** A price that a person must agree to before a tool runs: asked here, whichever way the server asks. */

import { button, el } from "./dom";
import { type Host, HostError, type Params } from "./host";
import { costWords } from "./job";
import { type JobRecord, readProblem, readRecord } from "./record";
import { words } from "./words";

/** Shows a question; whether the answer is yes. */
export type Ask = (question: string) => Promise<boolean>;
export interface Answered { record: JobRecord; answer: Params }

const ROUNDS = 3; // questions about one call, at most: a host may drop every answer

/** The text of a tool's result. */
export function textOf(result: Params): string {
  const blocks = (result["content"] as Params[] | undefined) ?? [];
  return blocks.map((block) => (block["type"] === "text" ? String(block["text"]) : "")).join("\n").trim();
}

/** The form by which a result asks, if it does: its name, and its words. */
function formOf(answer: Params): { name: string; question: string } | null {
  for (const [name, asked] of Object.entries((answer["inputRequests"] as Params | undefined) ?? {})) {
    const question = ((asked as Params)?.["params"] as Params | undefined)?.["message"];
    if (typeof question === "string") return { name, question };
  }
  return null;
}

/** The question about a price that a result is, if it is one. */
export function priceQuestion(answer: Params): string {
  const form = formOf(answer);
  if (form !== null) return form.question;
  const problem = readProblem(textOf(answer));
  if (problem.code !== "consent") return "";
  const price = /about [\d.]+ USD|an unknown price/.exec(problem.message)?.[0];
  return price !== undefined ? words.priceAsk(price) : `${problem.message} ${words.priceGoOn}`;
}

/** Calls tools; where a price needs a yes, the person of this page is asked. */
export class Caller {
  constructor(private host: Host) {}

  /**
   * Call a tool; null where the answer to its price was no.
   *
   * `first` is the answer of a call that was made already.
   */
  async call(name: string, args: Params, ask: Ask, first: Params | null = null): Promise<Answered | null> {
    let answer = first ?? (await this.host.callTool(name, args));
    for (let round = 0; round < ROUNDS; round++) {
      const record = readRecord(answer["structuredContent"]);
      if (record !== null) return { record, answer };
      const form = formOf(answer), said = textOf(answer);
      if (form === null && readProblem(said).code !== "consent") throw new HostError(said || words.noResult);
      const shown = priceQuestion(answer);
      if (!(await ask(shown))) return null;
      if (form !== null) answer = await this.answerForm(name, args, answer, form.name);
      else {
        // A dry run opens the way for the same call, so none is made before there is a yes.
        if (!(await this.agree(name, args, shown, ask))) return null;
        answer = await this.host.callTool(name, args);
      }
    }
    throw new HostError(words.answerLost);
  }

  private answerForm(name: string, args: Params, asked: Params, form: string): Promise<Params> {
    const inputResponses = { [form]: { action: "accept", content: {} } };
    return this.host.request("tools/call", { name, arguments: args, inputResponses, requestState: asked["requestState"] });
  }

  /** Agree by a dry run; its price is asked about once more unless the words before have named no lower one. */
  private async agree(name: string, args: Params, shown: string, ask: Ask): Promise<boolean> {
    const planned = await this.host.callTool(name, { ...args, dry_run: true });
    const plan = readRecord(planned["structuredContent"]);
    if (plan === null) throw new HostError(textOf(planned) || words.noResult);
    return covers(shown, plan) || ask(words.priceAsk(costWords(plan)));
  }
}

/** Whether words that a person has agreed to name this price, or a higher one. */
function covers(shown: string, plan: JobRecord): boolean {
  if (plan.estimate === null) return shown.includes("unknown price");
  const named = /about ([\d.]+) USD/.exec(shown)?.[1];
  return named !== undefined && plan.estimate <= Number(named) * 1.01;
}

/** A question with its two answers; where the page has the focus, the yes gets it: then one key is enough. */
export function askIn(place: HTMLElement): Ask {
  return (question) =>
    new Promise((resolve) => {
      const end = (isYes: boolean) => () => {
        place.replaceChildren();
        resolve(isYes);
      };
      const yes = button(words.priceYes, end(true), { class: "main" });
      const row = el("div", { class: "row" }, yes, button(words.priceNo, end(false)));
      place.replaceChildren(el("div", { class: "question", role: "group", "aria-label": question }, el("p", { class: "lead" }, question), row));
      if (document.hasFocus()) yes.focus(); // never away from where a person types: an Enter there is no yes
    });
}
