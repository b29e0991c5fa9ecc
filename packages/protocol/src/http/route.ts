/** Routes of an HTTP server, and what goes in and out of them. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

export interface HttpRequest {
  readonly method: string;
  /** Below the prefix, without slashes at its ends, still URL-encoded. */
  readonly path: string;
  /** What stood for the pattern's variable parts, still URL-encoded. */
  readonly parts: readonly string[];
  /** With its question mark; empty where there is none. */
  readonly search: string;
  readonly incoming: IncomingMessage;
  /**
   * The body as text.
   *
   * @throws {HttpError} 413 where it is too long.
   */
  readonly body: () => Promise<string>;
}

export interface HttpReply {
  /** Default 200. */
  readonly status?: number;
  /** Default plain text. */
  readonly type?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** For redirects: the path below the prefix. It goes out relative to the request's, so that any proxy may sit between. */
  readonly location?: string;
  /** Writes the whole answer itself; nothing else of the reply counts. */
  readonly stream?: (response: ServerResponse) => void;
}

export type HttpHandler = (request: HttpRequest) => HttpReply | undefined | Promise<HttpReply | undefined>;

export interface HttpRoute {
  /**
   * `info/task/*.html`: a star stands for anything that is not empty, `:name` for anything without a slash, and `/**` at
   * the end for whatever follows, nothing included.
   */
  readonly path: string;
  /** Default GET, and HEAD with it. */
  readonly method?: "GET" | "POST";
  /** Undefined is 404. */
  readonly handle: HttpHandler;
  /** Takes over the socket of a WebSocket handshake from an allowed origin. */
  readonly upgrade?: (request: HttpRequest, socket: Duplex, head: Buffer) => void | Promise<void>;
}

/** A request that is refused, with the status and one line that says why. */
export class HttpError extends Error {
  readonly code = "DASK_HTTP";
  override readonly name = "HttpError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** @throws {HttpError} 400 where the part is not properly URL-encoded. */
export function decodePart(part: string | undefined): string {
  try {
    return decodeURIComponent(part ?? "");
  } catch {
    throw new HttpError(400, "the path is not properly URL-encoded");
  }
}

interface Compiled {
  readonly pattern: RegExp;
  readonly routes: HttpRoute[];
}

/** Finds routes by path. Exact paths are looked up, patterns are tried in their order. */
export class HttpRouter {
  readonly #exact: Map<string, HttpRoute[]> = new Map();
  readonly #patterns: Compiled[] = [];

  constructor(routes: readonly HttpRoute[]) {
    for (const route of routes) {
      if (!/[*:]/.test(route.path)) {
        const known = this.#exact.get(route.path);
        if (known === undefined) this.#exact.set(route.path, [route]);
        else known.push(route);
      } else this.#patterns.push({ pattern: compile(route.path), routes: [route] });
    }
  }

  /** All routes of a path, whatever their method. */
  find(path: string): { readonly routes: readonly HttpRoute[]; readonly parts: readonly string[] } | undefined {
    const exact = this.#exact.get(path);
    if (exact !== undefined) return { routes: exact, parts: [] };
    for (const { pattern, routes } of this.#patterns) {
      const match = pattern.exec(path);
      if (match !== null) return { routes, parts: match.slice(1).map((part) => part ?? "") };
    }
    return undefined;
  }
}

function compile(path: string): RegExp {
  const source = path.replaceAll(/\/\*\*$|\*|:\w+|[.+?^${}()|[\]\\]/g, (token) => {
    if (token === "/**") return "(?:/(.*))?";
    if (token === "*") return "(.+)";
    return token.startsWith(":") ? "([^/]+)" : `\\${token}`;
  });
  return new RegExp(`^${source}$`, "s");
}
