/** Stock Dask as a test's oracle: a Python child that answers questions, one JSON line each. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Float, Pickled, PyEnum, Serialized, type Value } from "../../src/index.ts";

const PYTHON = fileURLToPath(new URL("../../../../.venv/bin/python", import.meta.url));
const SCRIPT = fileURLToPath(new URL("./oracle.py", import.meta.url));

/**
 * A value with its Python type spelled out: `["int", "1"]`, `["float", hex of the 8 bytes]`, `["dict", [[k, v], …]]`.
 * `serialize` and `to-pickle` stand for Python's wrappers.
 */
export type Tagged =
  | readonly ["none"]
  | readonly ["bool", boolean]
  | readonly ["int" | "float" | "str" | "bytes", string]
  | readonly ["tuple" | "set", readonly Tagged[]]
  | readonly ["dict", readonly (readonly [Tagged, Tagged])[]]
  | readonly ["serialize" | "to-pickle", Tagged];

export class Oracle {
  readonly #child: ChildProcess;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];

  constructor() {
    this.#child = spawn(PYTHON, [SCRIPT], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      const answer = JSON.parse(line) as { value?: unknown; error?: string };
      const caller = this.#waiting.shift();
      if (answer.error === undefined) caller?.resolve(answer.value);
      else caller?.reject(new Error(answer.error));
    });
    this.#child.on("exit", (code) => {
      for (const caller of this.#waiting) caller.reject(new Error(`the Python oracle ended with ${code}`));
    });
  }

  ask<T>(op: string, arg: unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve: resolve as (value: unknown) => void, reject });
      this.#child.stdin!.write(`${JSON.stringify({ op, arg })}\n`);
    });
  }

  close(): void {
    this.#child.stdin!.end();
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

export function unhex(text: string): Uint8Array {
  return Buffer.from(text, "hex");
}

/** Tags a decoded value; sub-messages must be opened by the caller's `open`. */
export function tag(value: Value | undefined, open?: (sub: Serialized | Pickled) => Tagged): Tagged {
  const inner = (item: Value | undefined): Tagged => tag(item, open);
  if (value === null || value === undefined) return ["none"];
  if (typeof value === "boolean") return ["bool", value];
  if (typeof value === "string") return ["str", value];
  if (typeof value === "bigint") return ["int", String(value)];
  if (typeof value === "number" && Number.isSafeInteger(value) && !Object.is(value, -0)) return ["int", String(value)];
  if (typeof value === "number" || value instanceof Float) {
    const bits = Buffer.alloc(8);
    bits.writeDoubleBE(Number(value));
    return ["float", bits.toString("hex")];
  }
  if (value instanceof Uint8Array) return ["bytes", hex(value)];
  if (Array.isArray(value)) return ["tuple", (value as readonly Value[]).map(inner)];
  if (value instanceof Set) return ["set", [...(value as ReadonlySet<Value>)].map(inner)];
  if (value instanceof Map) return ["dict", [...value].map(([k, v]) => [inner(k), inner(v)])];
  if (value instanceof Serialized || value instanceof Pickled) {
    if (open === undefined) throw new TypeError("a closed sub-message");
    return open(value);
  }
  if (value instanceof PyEnum) throw new TypeError("an enum");
  return ["dict", Object.entries(value).map(([k, v]) => [inner(k), inner(v)])];
}
