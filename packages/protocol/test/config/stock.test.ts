/** The configuration against stock dask, on the same cases. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import {
  deserializeConfig,
  formatBytes,
  interpretValue,
  loadConfig,
  parseBytes,
  parsePorts,
  parseTimedelta,
  serializeConfig,
} from "../../src/index.ts";

const literals = [
  ..."123|-5|+7|--1|0x10|0o17|0b101|1_000|1__0|1_|010|00|0_0|1e3|1.|.5|1_0.2_5e-1_0|1e400|-1e400|1j|1+2j|1if".split(
    "|",
  ),
  ..."None|none|NULL|null|True|true|TRUE|False|false|True and False|nan|inf|Ellipsis|...|set()|set( )|frozenset()".split(
    "|",
  ),
  ..."1h|30s|64MiB|tcp://127.0.0.1:8786|a.b|a b|5 minutes|/tmp/x|C:\\temp".split("|"),
  ..."[1,\"x\"]|[]|[1,]|[,]|[1,,2]|(1,2)|(1)|()|(1,)|1,2|1,|,1|{1,2}|{'b': 1}|{}|{1: 2, 'a': [1, {'c': None}]}|{'a': 1, 2}|{1, 'a': 2}".split(
    "|",
  ),
  "{'a' : (1, 2), 'b': {3}, }",
  '"1"',
  "'1'",
  "'it''s'",
  "'a' 'b'",
  '"a" "b"',
  "'''a\nb'''",
  "'a\nb'",
  "'a",
  "r'\\n'",
  "R'\\'",
  "u'x'",
  "b'x'",
  "f'x'",
  "rb'x'",
  "'\\n\\t\\x41\\u00e9\\101\\q'",
  "'\\U0001F600'",
  "'\\x4'",
  "'\\\n'",
  "",
  " ",
  " 1",
  "1 ",
  "\t1",
  "\n1",
  "1\n",
  "1 # comment",
  "# comment",
  "'#'",
  "[1, # c\n 2]",
  "1 2",
  "[1\n,2]",
  "1,\n2",
  "é",
  "'é'",
  "[".repeat(50) + "]".repeat(50),
  "-'a'",
  "-[1]",
  "not True",
  "[True, None, False]",
  "[true]",
  "{'a': true}",
  "{null}",
  "1.5.2",
  "1e",
  "0x",
  "0xg",
  "1_000.5",
  "9007199254740993",
];

const timedeltas: [string | number | null, ...(string | false)[]][] = [
  ..."3s|3.5 seconds|300ms|1us|1ns|5 minutes|1h|2d|1w|1 day|10|1H|1 m|ms|.5s|1 min|3 foo|inf|-1s|1h30m||5 MINUTES|1e3s|1e-3|1_000ms|1__0s|1.s|1 Milliseconds|1 µs|s|-|1.5.5s|10 Weeks|0|1e500s"
    .split("|")
    .map((text): [string] => [text]),
  [5],
  [2.5],
  [null],
  ["5", false],
  ["300", "ms"],
  ["5s", false],
  [0.001],
  [1e-7],
  [1e21],
  ["7", "foo"],
];

const bytes = [
  ..."100|100 MB|100M|5kB|5.4 kB|1 kb|1kiB|1Ki|64MiB|1 GiB|1g|1 TB|1PiB|MB||-5MB|5 foos|1e6|1e6 kB|B|1b|KIB|1.5.2|1_000|-MB|GiB|1 P|2t|.5kB|5.|--5|1e400|5 MiBs".split(
    "|",
  ),
  123,
  123.9,
  -1.5,
  0,
];

const sizes = [
  0,
  1,
  921,
  922,
  999,
  1024,
  1152,
  1280,
  1408,
  12345678,
  2e9,
  1234567890,
  1234567890000,
  1234567890000000,
  2 ** 60,
  1.125 * 2 ** 30,
  1.375 * 2 ** 20,
  2.625 * 2 ** 40,
];
const ports: (string | number | null)[] = [
  "8787",
  "8787:8790",
  ":8787",
  "8787:",
  null,
  8787,
  "8790:8787",
  "8787:8787",
  "a",
  "1:2:3",
  " 5 ",
  "+5",
];

const loads: { files: string[]; env: Record<string, string> }[] = [
  { files: [], env: {} },
  { files: [], env: { DASK_FOO__BAR_BAZ: "123", DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL: "None", OTHER: "1" } },
  { files: [], env: { DASK_DISTRIBUTED__WORKER__MEMORY: "{'target': False}", DASK_A: "", DASK_CONFIG: "/x" } },
  {
    files: ["distributed:\n  worker:\n    memory:\n      target: 0.5\n"],
    env: { DASK_DISTRIBUTED__WORKER__MEMORY__SPILL: "0.9" },
  },
  { files: ["a: {b: 1, c: [1, 2]}", "a: {c: [3], d_e: 1}", "a: {d-e: 2}"], env: { DASK_A__D_E: "3" } },
  { files: ["distributed:\n  scheduler:\n    worker_ttl: 1h\n    work_stealing: no\n"], env: {} },
  { files: ["distributed:\n  adaptive: 5\n"], env: {} },
  { files: ["distributed:\n  worker: null\n"], env: {} },
  { files: ["a: {b: 1}"], env: { DASK_A: "5" } },
  { files: ["a: 5"], env: { DASK_A__B: "1" } },
  { files: [""], env: {} },
  {
    files: [
      "a: .inf\nb: yes\nc: off\nd: 0x10\ne: 1_000\nf: ~\ng: '$HOME'\nh: 010\ni: 1e3\nj: 1.5e+3\nk: n\nl: 1.0e3\nm: 1:30\n",
    ],
    env: {},
  },
  { files: ["base: &b {x: 1}\nmore:\n  <<: *b\n  y: 2\na: 1\na: 2\n"], env: {} },
  { files: ['{"a": {"b": [1, 2.5, "x", null, true]}}'], env: {} },
  { files: ["[1, 2]"], env: {} },
  { files: ["a: [1"], env: {} },
  { files: ["a"], env: {} },
  {
    files: [],
    env: {
      DASK_INTERNAL_INHERIT_CONFIG: serializeConfig({ a: { b: 9, c: Number.POSITIVE_INFINITY } }),
      DASK_A__B: "7",
    },
  },
  { files: ["fuse-ave-width: 3\nshuffle: tasks\n"], env: {} },
  { files: [], env: { DASK_WORK_STEALING: "False", DASK_FUSE_AVE_WIDTH: "2" } },
  { files: ["array: {rechunk-threshold: 3}\n"], env: { DASK_ARRAY__RECHUNK__THRESHOLD: "5" } },
];

type Outcome = { value: unknown } | { error: string };
interface Stock {
  literals: unknown[];
  timedeltas: Outcome[];
  bytes: Outcome[];
  format_bytes: string[];
  ports: Outcome[];
  loads: ({ value: { config: Record<string, unknown>; warnings: number } } | { error: string })[];
  serialized: string;
  deserialized: unknown[];
}

let stock: Stock;

beforeAll(() => {
  const root = fileURLToPath(new URL("../../../../", import.meta.url));
  const input = JSON.stringify({
    literals,
    timedeltas,
    bytes,
    format_bytes: sizes,
    ports,
    loads,
    serialized: [serializeConfig({ a: [1, 1.5, "Infinity NaN", Number.POSITIVE_INFINITY, { é: null }] })],
  });
  const python = process.env["DASK_TS_PYTHON"] ?? `${root}.venv/bin/python`;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("DASK_")));
  stock = JSON.parse(
    execFileSync(python, [fileURLToPath(new URL("../support/stock_config.py", import.meta.url))], {
      input,
      env,
    }).toString(),
  ) as Stock;
});

/** Infinity in the form in which the script writes it. */
function plain(value: unknown): unknown {
  if (value === Number.POSITIVE_INFINITY) return { bare: "inf" };
  if (value === Number.NEGATIVE_INFINITY) return { bare: "-inf" };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? 0 : value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
}

function attempt(f: () => unknown): Outcome {
  try {
    return { value: plain(f()) };
  } catch (error) {
    return { error: (error as Error).name };
  }
}

function sameOutcome(ours: Outcome, theirs: Outcome, of: unknown): void {
  if ("error" in theirs) expect(ours, JSON.stringify(of)).toHaveProperty("error");
  else expect(ours, JSON.stringify(of)).toEqual(theirs);
}

test.each(literals.map((text, i): [string, number] => [text, i]))("the variable %j", (text, i) => {
  let theirs = stock.literals[i];
  // Complex numbers, byte strings and Ellipsis have no place in a configuration: they stay texts here.
  if (typeof theirs === "object" && theirs !== null && "other" in theirs) theirs = text;
  expect(plain(interpretValue(text))).toEqual(theirs);
});

test("durations", () => {
  for (const [i, [value, unit]] of timedeltas.entries()) {
    sameOutcome(
      attempt(() => parseTimedelta(value, unit)),
      stock.timedeltas[i]!,
      value,
    );
  }
});

test("sizes", () => {
  for (const [i, value] of bytes.entries())
    sameOutcome(
      attempt(() => parseBytes(value)),
      stock.bytes[i]!,
      value,
    );
  expect(sizes.map(formatBytes)).toEqual(stock.format_bytes);
});

test("ports", () => {
  for (const [i, value] of ports.entries())
    sameOutcome(
      attempt(() => parsePorts(value)),
      stock.ports[i]!,
      value,
    );
});

test.each(loads.map((load, i) => [JSON.stringify(load), i] as const))("%s", (_name, i) => {
  const { files, env } = loads[i]!;
  const folder = mkdtempSync(join(tmpdir(), "dask-ts-config-"));
  try {
    const paths = files.map((text, n) => {
      const path = join(folder, `${n}.yaml`);
      writeFileSync(path, text);
      return path;
    });
    const warnings: string[] = [];
    const ours = attempt(() => loadConfig({ env, paths, warn: (text) => warnings.push(text) }).toObject());
    const theirs = stock.loads[i]!;
    if ("error" in theirs) {
      expect(ours).toEqual({ error: "ConfigError" });
      return;
    }
    const config = (ours as { value: Record<string, unknown> }).value;
    expect({ distributed: config["distributed"] }).toEqual({ distributed: theirs.value.config["distributed"] });
    expect(config).toMatchObject(theirs.value.config);
    expect(warnings.length).toBe(theirs.value.warnings);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

describe("for child processes", () => {
  test("what we write, Python reads", () => {
    expect(stock.deserialized).toEqual([{ a: [1, 1.5, "Infinity NaN", { bare: "inf" }, { é: null }] }]);
  });
  test("what Python writes, we read", () => {
    const config = loadConfig({ env: {}, paths: [] });
    expect(deserializeConfig(stock.serialized)).toEqual(config.get("distributed"));
  });
});
