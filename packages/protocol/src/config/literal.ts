/**
 * Python literals, as `ast.literal_eval` reads them from `DASK_*` variables: numbers, strings, None, True, False,
 * lists, tuples, sets and dicts. Tuples and sets become arrays.
 */
import type { ConfigTree, ConfigValue } from "./value.ts";

/** Python gives up on deep nesting too; the text then stays a text. */
const MAX_DEPTH = 90;

/**
 * The value of an environment variable (dask.config.interpret_value): a Python literal, or none, null, true, false in
 * any case, or else the text itself.
 */
export function interpretValue(text: string): ConfigValue {
  try {
    return new LiteralParser(text).parse();
  } catch (error) {
    if (!(error instanceof NotALiteral)) throw error;
  }
  switch (text.toLowerCase()) {
    case "none":
    case "null":
      return null;
    case "true":
      return true;
    case "false":
      return false;
    default:
      return text;
  }
}

class NotALiteral extends Error {}

const DIGITS = "[0-9](?:_?[0-9])*";
const POINT_FLOAT = `(?:(?:${DIGITS})?\\.${DIGITS}|${DIGITS}\\.)`;
const NUMBER = new RegExp(
  [
    `(?<float>${POINT_FLOAT}(?:[eE][+-]?${DIGITS})?|${DIGITS}[eE][+-]?${DIGITS})`,
    `(?<hex>0[xX](?:_?[0-9a-fA-F])+)`,
    `(?<oct>0[oO](?:_?[0-7])+)`,
    `(?<bin>0[bB](?:_?[01])+)`,
    `(?<int>[1-9](?:_?[0-9])*|0(?:_?0)*)`,
  ].join("|"),
  "y",
);
const NAME = /[\p{L}_][\p{L}\p{N}_]*/uy;
const EMPTY_SET = /set[ \t]*\([ \t]*\)/y;
const STRING_START = /(?<prefix>[rR]|[uU]|)(?<quote>'''|"""|'|")/y;

class LiteralParser {
  readonly #text: string;
  #at = 0;
  /** Inside brackets a line break is white space. */
  #brackets = 0;

  constructor(text: string) {
    this.#text = text.replace(/^[ \t]+/, "").replace(/^(?:[ \t\f]*(?:#[^\n]*)?\n)+/, "");
  }

  parse(): ConfigValue {
    const value = this.#expressionList(0);
    this.#brackets = 1;
    this.#space();
    if (this.#at < this.#text.length) throw new NotALiteral();
    return value;
  }

  /** `1, 2` without brackets is a tuple. */
  #expressionList(depth: number): ConfigValue {
    const first = this.#value(depth);
    if (!this.#take(",")) return first;
    const items = [first];
    while (this.#peek() !== "") {
      items.push(this.#value(depth));
      if (!this.#take(",")) break;
    }
    return items;
  }

  #value(depth: number): ConfigValue {
    if (depth > MAX_DEPTH) throw new NotALiteral();
    const next = this.#peek();
    switch (next) {
      case "[":
        return this.#list("]", depth).items;
      case "(": {
        const { items, commas } = this.#list(")", depth);
        return items.length === 1 && commas === 0 ? items[0]! : items;
      }
      case "{":
        return this.#dictOrSet(depth);
      case "+":
      case "-": {
        this.#at++;
        this.#space();
        const number = this.#number();
        return next === "-" ? -number : number;
      }
      default:
        break;
    }
    if (next !== "" && (/[0-9]/.test(next) || (next === "." && /[0-9]/.test(this.#text[this.#at + 1] ?? "")))) {
      return this.#number();
    }
    return this.#string() ?? this.#name();
  }

  #list(end: string, depth: number): { items: ConfigValue[]; commas: number } {
    this.#at++;
    this.#brackets++;
    const items: ConfigValue[] = [];
    let commas = 0;
    while (this.#peek() !== end) {
      items.push(this.#value(depth + 1));
      if (!this.#take(",")) break;
      commas++;
    }
    this.#expect(end);
    this.#brackets--;
    return { items, commas };
  }

  #dictOrSet(depth: number): ConfigValue {
    this.#at++;
    this.#brackets++;
    const items: ConfigValue[] = [];
    const tree: ConfigTree = {};
    let isDict = this.#peek() === "}";
    while (this.#peek() !== "}") {
      const key = this.#value(depth + 1);
      if (items.length === 0 && this.#peek() === ":") isDict = true;
      if (isDict) {
        this.#expect(":");
        const value = this.#value(depth + 1);
        const name = typeof key === "string" ? key : JSON.stringify(key);
        Object.defineProperty(tree, name, { value, writable: true, enumerable: true, configurable: true });
      }
      items.push(key);
      if (!this.#take(",")) break;
    }
    this.#expect("}");
    this.#brackets--;
    return isDict ? tree : items;
  }

  #number(): number {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text);
    if (match === null) throw new NotALiteral();
    this.#at = NUMBER.lastIndex;
    // `1j` is complex, `010` and `1x` are errors.
    if (/[\p{L}\p{N}_]/u.test(this.#text[this.#at] ?? "")) throw new NotALiteral();
    return Number(match[0].replaceAll("_", ""));
  }

  #name(): ConfigValue {
    NAME.lastIndex = this.#at;
    const name = NAME.exec(this.#text)?.[0];
    const value = name === "None" ? null : name === "True" ? true : name === "False" ? false : undefined;
    if (value !== undefined) {
      this.#at = NAME.lastIndex;
      return value;
    }
    EMPTY_SET.lastIndex = this.#at;
    if (EMPTY_SET.test(this.#text)) {
      this.#at = EMPTY_SET.lastIndex;
      return [];
    }
    throw new NotALiteral();
  }

  /** Adjacent strings are one string. */
  #string(): string | undefined {
    let out: string | undefined;
    for (;;) {
      this.#space();
      STRING_START.lastIndex = this.#at;
      const match = STRING_START.exec(this.#text);
      if (match === null) return out;
      const { prefix, quote } = match.groups as { prefix: string; quote: string };
      this.#at = STRING_START.lastIndex;
      out = (out ?? "") + this.#stringBody(quote, prefix.toLowerCase() === "r");
    }
  }

  #stringBody(quote: string, raw: boolean): string {
    let out = "";
    for (;;) {
      const char = this.#text[this.#at];
      if (char === undefined || (quote.length === 1 && char === "\n")) throw new NotALiteral();
      if (this.#text.startsWith(quote, this.#at)) {
        this.#at += quote.length;
        return out;
      }
      this.#at++;
      if (char !== "\\") out += char;
      else if (raw) out += char + (this.#text[this.#at++] ?? "");
      else out += this.#escape();
    }
  }

  #escape(): string {
    const char = this.#text[this.#at++];
    const simple = SIMPLE_ESCAPES[char ?? ""];
    if (simple !== undefined) return simple;
    const width = char === "x" ? 2 : char === "u" ? 4 : char === "U" ? 8 : 0;
    if (width > 0) {
      const hex = this.#text.slice(this.#at, this.#at + width);
      if (hex.length < width || !/^[0-9a-fA-F]+$/.test(hex)) throw new NotALiteral();
      this.#at += width;
      const code = Number.parseInt(hex, 16);
      if (code > 0x10ffff) throw new NotALiteral();
      return String.fromCodePoint(code);
    }
    // `\N{NAME}` needs Unicode's table of names; the text stays as it is then.
    if (char === "N") throw new NotALiteral();
    const octal = /^[0-7]{1,3}/.exec(this.#text.slice(this.#at - 1))?.[0];
    if (octal !== undefined) {
      this.#at += octal.length - 1;
      return String.fromCharCode(Number.parseInt(octal, 8));
    }
    // An unknown escape stays as it is, backslash included.
    return `\\${char ?? ""}`;
  }

  #peek(): string {
    this.#space();
    return this.#text[this.#at] ?? "";
  }

  #take(char: string): boolean {
    if (this.#peek() !== char) return false;
    this.#at++;
    return true;
  }

  #expect(char: string): void {
    if (!this.#take(char)) throw new NotALiteral();
  }

  #space(): void {
    const space = this.#brackets > 0 ? /(?:[ \t\f\r\n]|\\\n|#[^\n]*)*/y : /(?:[ \t\f]|\\\n|#[^\n]*)*/y;
    space.lastIndex = this.#at;
    space.exec(this.#text);
    this.#at = space.lastIndex;
  }
}

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  "\n": "",
  "\\": "\\",
  "'": "'",
  '"': '"',
  a: "\u0007",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};
