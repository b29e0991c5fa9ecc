/** `/health` and `/livez` of whatever listens; `/readyz` says why it cannot work yet (not in stock). */
import type { HttpReply, HttpRoute } from "./route.ts";

/** @param notReady why it is not ready, for people to read; undefined where it is. */
export function healthRoutes(notReady: () => string | undefined): HttpRoute[] {
  const ok = (): HttpReply => ({ body: "ok" });
  return [
    { path: "health", handle: ok },
    { path: "livez", handle: ok },
    {
      path: "readyz",
      handle: () => {
        const why = notReady();
        return why === undefined ? ok() : { status: 503, body: `${why}\n` };
      },
    },
  ];
}
