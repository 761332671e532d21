/** Elements. Text comes in as text nodes alone: nothing that a result says is ever read as HTML. */

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  set(made, attributes);
  add(made, ...children);
  return made;
}

export function set(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    // A style attribute is what a strict policy refuses; a property that is set by script is not.
    if (name.startsWith("--")) (element as HTMLElement).style.setProperty(name, String(value));
    else if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

export function add(parent: Node, ...children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    parent.appendChild(typeof child === "string" ? document.createTextNode(child) : child);
  }
}

export function button(text: string, act: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const made = el("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", act);
  return made;
}

let groups = 0;

/** A group of choices, as radio buttons that look like one bar. */
export function choice(
  legend: string,
  options: readonly (readonly [string, string])[],
  chosen: string,
  choose: (value: string) => void,
): HTMLElement {
  const name = `choice${++groups}`;
  const made = el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, legend));
  for (const [value, text] of options) {
    const input = el("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => input.checked && choose(value));
    add(made, el("label", {}, input, el("span", {}, text)));
  }
  return made;
}

export function slider(
  text: string,
  range: { min: number; max: number; step: number; value: number },
  change: (value: number) => void,
  attributes: Attributes = {},
): { label: HTMLLabelElement; input: HTMLInputElement } {
  const input = el("input", { type: "range", ...range, ...attributes });
  input.addEventListener("input", () => change(Number(input.value)));
  return { label: el("label", { class: "slider" }, el("span", {}, text), input), input };
}

/** Say something to who listens and does not see. */
export function say(text: string): void {
  const place = document.getElementById("said");
  if (place !== null) place.textContent = text;
}
