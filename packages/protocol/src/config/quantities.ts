/**
 * Durations, sizes and ports as Dask's configuration writes them (dask.utils.parse_timedelta, parse_bytes,
 * format_bytes, distributed.utils.parse_ports), the odd results included.
 */

/** Told of values that Dask reads in a way that hardly anyone means. */
export type WarnOdd = (text: string) => void;

const TIME_UNITS = new Map<string, number>([
  ["s", 1],
  ["ms", 1e-3],
  ["us", 1e-6],
  ["ns", 1e-9],
  ["m", 60],
  ["h", 3600],
  ["d", 86400],
  ["w", 604800],
]);
for (const [name, seconds] of [
  ["second", 1],
  ["minute", 60],
  ["hour", 3600],
  ["day", 86400],
  ["week", 604800],
  ["millisecond", 1e-3],
  ["microsecond", 1e-6],
  ["nanosecond", 1e-9],
] as const) {
  TIME_UNITS.set(name, seconds).set(`${name}s`, seconds);
}

const PYTHON_FLOAT = /^[+-]?(?:\d+(?:_\d+)*(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:[eE][+-]?\d+(?:_\d+)*)?$/;

function pythonFloat(text: string): number {
  if (!PYTHON_FLOAT.test(text)) throw new RangeError(`could not convert string to float: '${text}'`);
  return Number(text.replaceAll("_", ""));
}

/** Splits `5.4kB` into `5.4` and `kB`. */
function splitUnit(text: string): [number: string, unit: string] {
  const unit = /\p{L}*$/u.exec(text)?.[0] ?? "";
  // As in Dask, a text of letters only keeps its first one in front; both callers put a 1 there before.
  const at = Math.max(1, text.length - unit.length);
  return [text.slice(0, at), text.slice(at)];
}

/**
 * A duration in seconds; null for null.
 *
 * @param defaultUnit the unit of a bare number; false where a unit is required.
 * @throws {RangeError} for unknown units and bad numbers.
 */
export function parseTimedelta(value: string | number, defaultUnit?: string | false, warn?: WarnOdd): number;
export function parseTimedelta(
  value: string | number | null,
  defaultUnit?: string | false,
  warn?: WarnOdd,
): number | null;
export function parseTimedelta(
  value: string | number | null,
  defaultUnit: string | false = "seconds",
  warn?: WarnOdd,
): number | null {
  if (value === null) return null;
  let text = String(value).replaceAll(" ", "");
  if (text === "") throw new RangeError("an empty text is no duration");
  if (!/^\d/.test(text)) {
    if (text.startsWith(".")) warn?.(`the duration '${value}' is read as '1${text}'`);
    text = `1${text}`;
  }
  const [number, suffix] = splitUnit(text);
  const unit = suffix === "" ? defaultUnit : suffix;
  if (unit === false) throw new RangeError(`Missing time unit: ${text}`);
  const n = pythonFloat(number);
  const seconds = TIME_UNITS.get(unit.toLowerCase());
  if (seconds === undefined) {
    throw new RangeError(`Invalid time unit: ${unit}. Valid units are: ${[...TIME_UNITS.keys()].join(", ")}`);
  }
  if (!Number.isFinite(n * seconds)) throw new RangeError(`the duration '${value}' is beyond all bounds`);
  return n * seconds;
}

const BYTE_UNITS = new Map<string, number>([
  ["", 1],
  ["b", 1],
]);
for (const [i, letter] of ["k", "m", "g", "t", "p"].entries()) {
  BYTE_UNITS.set(letter, 1000 ** (i + 1)).set(`${letter}b`, 1000 ** (i + 1));
  BYTE_UNITS.set(`${letter}i`, 1024 ** (i + 1)).set(`${letter}ib`, 1024 ** (i + 1));
}

/**
 * A size in bytes, cut to an integer.
 *
 * @throws {RangeError} for unknown units and bad numbers.
 */
export function parseBytes(value: string | number, warn?: WarnOdd): number {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new RangeError(`cannot convert ${value} to bytes`);
    return Math.trunc(value);
  }
  let text = value.replaceAll(" ", "");
  if (!/\d/.test(text)) {
    text = `1${text}`;
    warn?.(`the size '${value}' has no number and is read as '${text}'`);
  }
  const [number, unit] = splitUnit(text);
  if (!PYTHON_FLOAT.test(number)) throw new RangeError(`Could not interpret '${number}' as a number`);
  const bytes = BYTE_UNITS.get(unit.toLowerCase());
  if (bytes === undefined) throw new RangeError(`Could not interpret '${unit}' as a byte unit`);
  const result = pythonFloat(number) * bytes;
  if (!Number.isFinite(result)) throw new RangeError(`the size '${value}' is beyond all bounds`);
  return Math.trunc(result);
}

/** A size as text: `1.21 kiB`. */
export function formatBytes(bytes: number): string {
  for (const [prefix, unit] of FORMAT_UNITS) {
    if (bytes >= unit * 0.9) return `${twoDecimals(bytes / unit)} ${prefix}B`;
  }
  return `${bytes} B`;
}

const FORMAT_UNITS: readonly (readonly [string, number])[] = [
  ["Pi", 2 ** 50],
  ["Ti", 2 ** 40],
  ["Gi", 2 ** 30],
  ["Mi", 2 ** 20],
  ["ki", 2 ** 10],
];

/** `%.2f`: Python rounds a half to the even digit, toFixed upwards. A half exists only at odd eighths. */
function twoDecimals(value: number): string {
  if (!Number.isInteger(value * 8) || Math.abs(value * 8) % 2 !== 1) return value.toFixed(2);
  const below = Math.floor(value * 100);
  return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2);
}

/**
 * A port, or a range `first:last` (both included), as a list. Null stays null: no port was given.
 *
 * @throws {RangeError} where it is neither.
 */
export function parsePorts(port: number | string | readonly number[] | null): number[] | [null] {
  if (port === null) return [null];
  if (typeof port === "number") return [port];
  if (typeof port !== "string") return [...port];
  const [first, last, ...more] = port.split(":").map((part) => {
    if (!/^\s*[+-]?\d+\s*$/.test(part)) throw new RangeError(`'${port}' is no port and no range of ports`);
    return Number(part);
  });
  if (first === undefined || more.length > 0) throw new RangeError(`'${port}' is no port and no range of ports`);
  if (last === undefined) return [first];
  if (last <= first) {
    throw new RangeError(
      `When specifying a range of ports like port_start:port_stop, port_stop must be greater than port_start, ` +
        `but got port_start=${first} and port_stop=${last}`,
    );
  }
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/**
 * `--memory-limit` in bytes; null for no limit (distributed.worker_memory.parse_memory_limit).
 *
 * @param limit `auto`, a fraction of the system's memory up to 1, bytes, a text, 0 or null for none.
 * @param system memory and cores that this process may use.
 */
export function parseMemoryLimit(
  limit: string | number | null,
  nthreads: number,
  system: { readonly memory: number; readonly cores: number },
  warn?: WarnOdd,
): number | null {
  if (limit === null) return null;
  let bytes: number;
  const number = limit === "auto" ? Number.NaN : typeof limit === "number" ? limit : tryFloat(limit);
  if (limit === "auto") bytes = Math.trunc(system.memory * Math.min(1, nthreads / system.cores));
  else if (!Number.isNaN(number)) bytes = Math.trunc(number <= 1 ? number * system.memory : number);
  else bytes = parseBytes(limit, warn);
  if (bytes === 0) return null;
  if (bytes > system.memory) {
    warn?.(`Ignoring provided memory limit ${limit} due to system memory limit of ${formatBytes(system.memory)}`);
    return system.memory;
  }
  return bytes;
}

function tryFloat(text: string): number {
  return PYTHON_FLOAT.test(text.trim()) ? pythonFloat(text.trim()) : Number.NaN;
}
