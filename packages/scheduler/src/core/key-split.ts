/** dask.utils.key_split and distributed.utils.key_split_group: from a key to its prefix and its group. */
import { Float, type Key } from "@dask-ts/protocol";

const UTF8 = new TextDecoder();
const HYPHEN = 45;
const HEX32 = /^[a-f0-9]{32}/;
// Dask matches only the beginning of the word, so any word of eight letters that starts with a–f counts as hex.
const HEX8 = /^[a-f]/;
const ALPHABETIC = /^\p{Alphabetic}+$/u;
const LETTER = /^\p{Alphabetic}/u;

/** Text before the first character of a set, on both sides (str.strip). */
function strip(text: string, characters: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && characters.includes(text[start] as string)) start++;
  while (end > start && characters.includes(text[end - 1] as string)) end--;
  return text.slice(start, end);
}

/** `<module.Class object at 0x…>` → `Class`. */
function className(text: string): string {
  const first = strip(text, "<>").trim().split(/\s+/)[0];
  if (!first) throw new Error("no class name");
  return first.slice(first.lastIndexOf(".") + 1);
}

/** The task prefix of a key. */
export function keySplit(key: Key): string {
  if (key instanceof Uint8Array) return keySplit(UTF8.decode(key));
  if (Array.isArray(key)) return key.length === 0 ? "Other" : keySplit((key as readonly Key[])[0] as Key);
  if (typeof key !== "string") return "Other";
  const simple = keySplitAscii(key);
  if (simple !== undefined) return simple;
  try {
    return keySplitText(key);
  } catch {
    return "Other";
  }
}

/** The common case without a regular expression: an ASCII word, then words until one that is no plain word. */
function keySplitAscii(text: string): string | undefined {
  const n = text.length;
  if (n === 0 || !isAsciiLetter(text.charCodeAt(0))) return undefined;
  let end = 0;
  while (end < n) {
    const code = text.charCodeAt(end);
    if (code === HYPHEN) break;
    if (code > 127) return undefined;
    end++;
  }
  while (end < n) {
    const start = end + 1;
    let at = start;
    let plain = true;
    for (; at < n; at++) {
      const code = text.charCodeAt(at);
      if (code === HYPHEN) break;
      if (code > 127) return undefined;
      if (!isAsciiLetter(code)) {
        plain = false;
        break;
      }
    }
    if (!plain || at === start) break;
    if (at - start === 8 && HEX8.test(text[start] as string)) break;
    end = at;
  }
  return end === 32 ? undefined : text.slice(0, end);
}

function isAsciiLetter(code: number): boolean {
  return (code >= 97 && code <= 122) || (code >= 65 && code <= 90);
}

function keySplitText(text: string): string {
  const words = text.split("-");
  const first = words[0] as string;
  if (first.length === 0) return "Other";
  let result = LETTER.test(first) ? first : strip(first.split(",")[0] as string, "_'()\"");
  for (let i = 1; i < words.length; i++) {
    const word = words[i] as string;
    if (!ALPHABETIC.test(word) || (word.length === 8 && HEX8.test(word))) break;
    result += `-${word}`;
  }
  if (result.length === 0) return "Other";
  if (result.length === 32 && HEX32.test(result)) return "data";
  if (result[0] === "<") return className(result);
  return result;
}

/** The task group of a key: the first element as it is for a tuple, else a name. */
export function keySplitGroup(key: Key): Key {
  if (Array.isArray(key)) return key.length === 0 ? "Other" : ((key as readonly Key[])[0] as Key);
  if (typeof key === "string") {
    const first = key[0];
    if (first === "(") return strip(key.split(",", 1)[0] as string, "()\"'");
    if (key.length === 32 && HEX32.test(key)) return "data";
    if (first === "<") {
      try {
        return className(key);
      } catch {
        return "Other";
      }
    }
    return keySplit(key);
  }
  if (key instanceof Uint8Array) return keySplitGroup(UTF8.decode(key));
  if (key instanceof Float) return "Other";
  return "Other";
}
