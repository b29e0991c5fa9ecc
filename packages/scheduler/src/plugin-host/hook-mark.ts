/** What the plugin host was doing when it died: a small file that it writes through memory (dask_ts.plugin_watch). */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

const MARK_BYTES = 512;

export interface MarkedWork {
  /** `scheduler plugin 'NAME'`, `function 'NAME'` */
  readonly who: string;
  /** The hook's name, or what else it was. */
  readonly what: string;
}

export class HookMark {
  readonly path: string;

  /** Makes the file. @throws where that is not possible. */
  constructor(path: string) {
    this.path = path;
    this.clear();
  }

  clear(): void {
    const file = openSync(this.path, "w");
    writeSync(file, new Uint8Array(MARK_BYTES));
    closeSync(file);
  }

  /** Undefined where no user code was at work. */
  read(): MarkedWork | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.path);
    } catch {
      return undefined;
    }
    const end = bytes.indexOf(0);
    const [who = "", what = ""] = bytes.toString("utf8", 0, end < 0 ? bytes.length : end).split("\n");
    return who === "" ? undefined : { who, what };
  }
}
