/** What `--version` says. */
export const VERSION = "dask-ts, version 0.1.0 (speaks distributed 2026.8.0)";
