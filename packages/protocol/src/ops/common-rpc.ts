/** Ops of every server (distributed.core.Server). */
export const COMMON_RPC = {
  identity: { fields: { n_workers: "int?" }, reply: "map; n_workers is for the scheduler" },
  echo: { fields: { data: "any?" }, reply: "data" },
  connection_stream: { fields: { extra: "map?" }, reply: "taken over: a one-way stream" },
  dump_state: { fields: { exclude: "list?" }, reply: "nested map for debugging" },
} as const;
