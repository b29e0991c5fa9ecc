/** distributed.scheduler.heartbeat_interval: seconds between heartbeats for n peers; at most 200 heartbeats/s. */
export function heartbeatInterval(n: number): number {
  if (n <= 10) return 0.5;
  if (n < 50) return 1;
  if (n < 200) return 2;
  return n / 200 + 1;
}
