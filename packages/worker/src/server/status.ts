/** Statuses of a worker (distributed.core.Status). */

/** The statuses in which a worker takes part (WORKER_ANY_RUNNING). */
export const ANY_RUNNING: ReadonlySet<string> = new Set(["running", "paused", "closing_gracefully"]);
