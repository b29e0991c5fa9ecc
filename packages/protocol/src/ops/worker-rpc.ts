/** RPC ops of workers (wire-protocol.md §20; Worker.handlers) and nannies (§21; Nanny.handlers). */
export const WORKER_RPC = {
  get_data: {
    fields: { keys: "keys", who: "str?" },
    reply: '{status: "OK", data}, answered with "OK"; or {status: "busy"}',
  },
  update_data: { fields: { data: "map", stimulus_id: "str?" }, reply: '{nbytes: {key: int}, status: "OK"}' },
  gather: { fields: { who_has: "map" }, reply: '{status: "OK"} or {status: "partial-fail", keys}' },
  free_keys: { fields: { keys: "keys", stimulus_id: "str" }, reply: "nil" },
  run: {
    fields: { function: "pickled", args: "pickled?", kwargs: "pickled?", wait: "bool?" },
    reply: '{status: "OK", result} or error map',
  },
  run_coroutine: {
    fields: { function: "pickled", args: "pickled?", kwargs: "pickled?", wait: "bool?" },
    reply: '{status: "OK", result} or error map',
  },
  "plugin-add": {
    fields: { plugin: "pickled", name: "str?", catch_errors: "bool?" },
    reply: '{status: "OK"} or error map',
  },
  "plugin-remove": { fields: { name: "str" }, reply: '{status: "OK"} or error map' },
  actor_execute: {
    fields: { actor: "key?", function: "str?", args: "list?", kwargs: "map?" },
    reply: '{status: "OK", result} or {status: "error", exception}',
  },
  actor_attribute: { fields: { actor: "key?", attribute: "str?" }, reply: "as actor_execute" },
  upload_file: { fields: { filename: "str", data: "any", load: "bool?" }, reply: '{status: "OK", nbytes}' },
  call_stack: { fields: { keys: "keys?" }, reply: "{key: [str]}" },
  profile: { fields: { start: "float?", stop: "float?", key: "any?", server: "bool?" }, reply: "profile tree" },
  profile_metadata: { fields: { start: "float?", stop: "float?" }, reply: "{counts, keys}" },
  get_logs: { fields: { start: "int?", n: "int?", timestamps: "bool?" }, reply: "[[level, line]]" },
  keys: { fields: {}, reply: "[key]" },
  versions: { fields: { packages: "list?" }, reply: "{host, packages}" },
  ping: { fields: {}, reply: 'b"pong"' },
  get_story: { fields: { keys_or_stimuli: "list" }, reply: "[entry]" },
  get_monitor_info: { fields: { recent: "bool?", start: "int?" }, reply: "map" },
  benchmark_disk: { fields: {}, reply: "{size: bytes/s}" },
  benchmark_memory: { fields: {}, reply: "{size: bytes/s}" },
  benchmark_network: { fields: { address: "str" }, reply: "{size: bytes/s}" },
  terminate: {
    fields: { timeout: "duration?", executor_wait: "bool?", nanny: "bool?", reason: "str?" },
    reply: '"OK"',
  },
  shuffle_receive: {
    fields: { shuffle_id: "str", run_id: "int", data: "serialized" },
    reply: '{status: "OK"} or error map',
  },
  shuffle_inputs_done: { fields: { shuffle_id: "str", run_id: "int" }, reply: "nil" },
} as const;

export const NANNY_RPC = {
  instantiate: { fields: {}, reply: "status" },
  kill: { fields: { timeout: "duration?", reason: "str?" }, reply: "nil" },
  restart: { fields: { timeout: "duration?", reason: "str?" }, reply: '"OK", "timed out" or error map' },
  get_logs: { fields: { start: "int?", n: "int?", timestamps: "bool?" }, reply: "[[level, line]]" },
  terminate: { fields: { timeout: "duration?", reason: "str?" }, reply: '"OK"' },
  close_gracefully: { fields: { reason: "str?" }, reply: "nil" },
  run: {
    fields: { function: "pickled", args: "pickled?", kwargs: "pickled?", wait: "bool?" },
    reply: '{status: "OK", result} or error map',
  },
  plugin_add: { fields: { plugin: "pickled", name: "str?" }, reply: '{status: "OK"} or error map' },
  plugin_remove: { fields: { name: "str" }, reply: '{status: "OK"} or error map' },
} as const;
