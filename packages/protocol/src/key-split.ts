/** A key's prefix and group: the names under which the scheduler keeps statistics (state-machines.md §1). */
import type { Key } from "./key.ts";

/**
 * The prefix of a key, as `dask.utils.key_split` gives it: `x-1` → `x`, `("x-2", 1)` → `x`, a bare 32-digit
 * hash → `data`, what has no prefix → `Other`. Keys for which Dask's function raises (an empty tuple, bytes
 * that are no UTF-8) are `Other` too.
 */
export function keySplit(key: Key): string {
  if (typeof key === "string") return splitText(key);
  if (Array.isArray(key)) {
    const first = (key as readonly Key[])[0];
    return first === undefined ? "Other" : keySplit(first);
  }
  if (key instanceof Uint8Array) return splitText(textOf(key));
  return "Other";
}

/**
 * The group of a key, as `distributed.utils.key_split_group` gives it: the first element of a tuple as it is
 * (it may be any key), otherwise a text such as `x` for `x-1` and `x-2` for `"('x-2', 1)"`. Where Dask's function raises: `Other`.
 */
export function keySplitGroup(key: Key): Key {
  if (typeof key === "string") return groupOfText(key);
  if (Array.isArray(key)) return (key as readonly Key[])[0] ?? emptyOrNone(key as readonly Key[]);
  if (key instanceof Uint8Array) return groupOfText(textOf(key));
  return "Other";
}

/** `(None, 1)` has the group None, `()` has none. */
function emptyOrNone(key: readonly Key[]): Key {
  return key.length === 0 ? "Other" : null;
}

function groupOfText(text: string): string {
  if (text.charCodeAt(0) === PAREN) {
    const comma = text.indexOf(",");
    return strip(comma < 0 ? text : text.slice(0, comma), "()\"'");
  }
  if (isHash(text)) return "data";
  if (text.charCodeAt(0) === LESS) return className(text) ?? "Other";
  return splitText(text);
}

const PAREN = 0x28;
const LESS = 0x3c;

function splitText(text: string): string {
  let dash = text.indexOf("-");
  const first = dash < 0 ? text : text.slice(0, dash);
  let result = startsWithLetter(first) ? first : stripped(first);
  if (first === "") return "Other";
  // Words follow as long as they are purely alphabetic: "hello-world-1" is hello-world.
  while (dash >= 0) {
    const start = dash + 1;
    dash = text.indexOf("-", start);
    const end = dash < 0 ? text.length : dash;
    if (!isNameWord(text, start, end)) break;
    result += `-${text.slice(start, end)}`;
  }
  if (isHash(result)) return "data";
  if (result === "") return "Other";
  return result.charCodeAt(0) === LESS ? (className(result) ?? "Other") : result;
}

function stripped(word: string): string {
  const comma = word.indexOf(",");
  return strip(comma < 0 ? word : word.slice(0, comma), "_'()\"");
}

function startsWithLetter(word: string): boolean {
  const code = word.charCodeAt(0);
  return code < 0x80 ? isAsciiLetter(code) : /^\p{L}/u.test(word);
}

/** Alphabetic, and not what Dask takes for 8 digits of a hash: any 8 letters of which the first is a–f. */
function isNameWord(text: string, start: number, end: number): boolean {
  if (start === end) return false;
  for (let i = start; i < end; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) return isUnicodeNameWord(text.slice(start, end));
    if (!isAsciiLetter(code)) return false;
  }
  return end - start !== 8 || !isHexLetter(text.charCodeAt(start));
}

function isUnicodeNameWord(word: string): boolean {
  return /^\p{L}+$/u.test(word) && !(Array.from(word).length === 8 && isHexLetter(word.charCodeAt(0)));
}

function isAsciiLetter(code: number): boolean {
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x7a;
}

function isHexLetter(code: number): boolean {
  return code >= 0x61 && code <= 0x66;
}

function isHash(text: string): boolean {
  return text.length === 32 && /^[a-f0-9]{32}$/.test(text);
}

/** White space as Python's `str.split()` sees it. */
// oxlint-disable-next-line no-control-regex -- Python counts the four separators U+001C to U+001F as white space
const PYTHON_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/** `<module.submodule.myclass object at 0xdaf372>` → `myclass`; undefined where nothing is between the brackets. */
function className(repr: string): string | undefined {
  const word = strip(repr, "<>")
    .split(PYTHON_SPACE)
    .find((part) => part !== "");
  return word?.slice(word.lastIndexOf(".") + 1);
}

/** Python's `str.strip(chars)`. */
function strip(text: string, chars: string): string {
  let from = 0;
  let to = text.length;
  while (from < to && chars.includes(text[from]!)) from++;
  while (to > from && chars.includes(text[to - 1]!)) to--;
  return from === 0 && to === text.length ? text : text.slice(from, to);
}

function textOf(bytes: Uint8Array): string {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return "";
  }
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
