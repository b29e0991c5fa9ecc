/** stderr as a log writes to it: whoever reads it slowly, or not at all, never holds up the event loop. */

/** Bytes that wait for the reader of a pipe; what comes on top is dropped, and counted. */
const MOST_WAITING = 8_000_000;
/** How long the end of the process waits for that reader, ms. */
const FLUSH_MS = 1000;

let dropped = 0;
let isBroken = false;

/** Writes lines. To files and terminals at once, to pipes and sockets as their reader takes them. */
export function writeStderr(text: string): void {
  const { stderr } = process;
  // as Python's logging, which tells nobody but the same stderr
  if (stderr.listenerCount("error", onError) === 0) stderr.on("error", onError);
  if (isBroken) return;
  if (stderr.writableLength > MOST_WAITING) {
    dropped++;
    return;
  }
  if (dropped > 0) {
    stderr.write(`${dropped} log lines were dropped, as the reader of this log was too slow\n`);
    dropped = 0;
  }
  stderr.write(text);
}

/** Resolves when all is written, or its reader does not take it. To be awaited before the process is ended. */
export async function flushStderr(): Promise<void> {
  const { stderr } = process;
  if (isBroken || stderr.writableLength === 0) return;
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([
    new Promise<void>((resolve) => stderr.write("", () => resolve())),
    new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FLUSH_MS);
    }),
  ]);
  clearTimeout(timer);
}

/** Its reader is gone. */
function onError(): void {
  isBroken = true;
}
