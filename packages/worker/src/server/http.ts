/** The worker's HTTP port: `/health`, `/metrics`, `/sitemap.json`, `/info` (distributed.http.worker). */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One page: its content type and its text, made anew for each request. */
export interface Page {
  readonly contentType: string;
  render(): string;
}

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves pages by path.
 *
 * @param port 0 for a random one. A port that is taken is replaced by a random one, as ServerNode.start_http_server
 *   does; `onPortTaken` is told.
 */
export async function serveHttp(
  host: string,
  port: number,
  pages: ReadonlyMap<string, Page>,
  onPortTaken: (port: number, used: number) => void,
): Promise<HttpServer> {
  const server = createServer((request, response) => answer(pages, request, response));
  // A scraper that stalls must not hold a socket for good.
  server.requestTimeout = 30_000;
  try {
    await listen(server, host, port);
  } catch (error) {
    if (port === 0 || !(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    await listen(server, host, 0);
    onPortTaken(port, boundPort(server));
  }
  return {
    port: boundPort(server),
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((done) => {
        server.close(() => done());
      });
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(port, host, () => {
      server.off("error", fail);
      done();
    });
  });
}

function boundPort(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function answer(pages: ReadonlyMap<string, Page>, request: IncomingMessage, response: ServerResponse): void {
  const path = (request.url ?? "/").split("?")[0] ?? "/";
  const page = pages.get(path);
  if (page === undefined || (request.method !== "GET" && request.method !== "HEAD")) {
    response.writeHead(page === undefined ? 404 : 405, { "Content-Type": "text/plain; charset=utf-8" });
    response.end(page === undefined ? "404: Not Found\n" : "405: Method Not Allowed\n");
    return;
  }
  try {
    const body = page.render();
    response.writeHead(200, { "Content-Type": page.contentType });
    response.end(request.method === "HEAD" ? "" : body);
  } catch (error) {
    response.writeHead(500, { "Content-Type": "text/plain; charset=utf-8" });
    response.end(`500: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

/** Text for HTML. */
export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
