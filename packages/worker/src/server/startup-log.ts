/** The lines that tools look for when a worker starts (Worker.start_unsafe); the padding is part of them. */
import { formatBytes, formatKey, getAddressHost, isKey, type Logger, type Value } from "@dask-ts/protocol";

const WIDTH = 26;
const RULE = "-".repeat(49);

export interface StartedWorker {
  readonly log: Logger;
  readonly address: string;
  readonly name: Value;
  readonly schedulerAddress: string;
  readonly nthreads: number;
  readonly memoryLimit: number | null;
  readonly localDirectory: string;
  readonly dashboardPort: number | undefined;
}

export function logStarted(worker: StartedWorker, listeningAddress: string, isNamed: boolean): void {
  const { log } = worker;
  const right = (value: string | number): string => String(value).padStart(WIDTH);
  log.info(`      Start worker at: ${right(worker.address)}`);
  log.info(`         Listening to: ${right(listeningAddress)}`);
  if (isNamed) log.info(`          Worker name: ${right(isKey(worker.name) ? formatKey(worker.name) : "")}`);
  if (worker.dashboardPort !== undefined) {
    const at = `${getAddressHost(worker.address)}:${worker.dashboardPort}`;
    log.info(`  ${"dashboard".padStart(16)} at: ${right(at)}`);
  }
  log.info(`Waiting to connect to: ${right(worker.schedulerAddress)}`);
  log.info(RULE);
  log.info(`              Threads: ${right(worker.nthreads)}`);
  if (worker.memoryLimit !== null) log.info(`               Memory: ${right(formatBytes(worker.memoryLimit))}`);
  log.info(`      Local Directory: ${right(worker.localDirectory)}`);
  log.info(RULE);
}
