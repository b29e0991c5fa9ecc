/** Numbers as people read them. */

/** dask.utils.format_time. */
export function seconds(n: number): string {
  if (n > 24 * 60 * 60 * 2)
    return `${Math.trunc(n / 3600 / 24)}d ${Math.trunc((n - Math.trunc(n / 86400) * 86400) / 3600)}hr`;
  if (n > 60 * 60 * 2) return `${Math.trunc(n / 3600)}hr ${Math.trunc((n % 3600) / 60)}m`;
  if (n > 60 * 10) return `${Math.trunc(n / 60)}m ${Math.trunc(n % 60)}s`;
  if (n >= 1) return `${n.toFixed(2)} s`;
  if (n >= 1e-3) return `${(n * 1e3).toFixed(2)} ms`;
  return `${(n * 1e6).toFixed(2)} us`;
}
