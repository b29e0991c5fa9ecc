/**
 * Messages on the streams, by direction (wire-protocol.md §16–§19). They have no reply. `client` and `worker` are
 * filled in by the receiver from the stream; a field of the same name in the message wins.
 */

/** Scheduler.stream_handlers, as clients use them. */
export const CLIENT_TO_SCHEDULER = {
  "update-graph": {
    fields: {
      client: "str?",
      expr_ser: "serialized",
      keys: "keys",
      span_metadata: "pickled",
      internal_priority: "map|nil",
      submitting_task: "key|nil",
      user_priority: "any?",
      actors: "any?",
      fifo_timeout: "duration?",
      code: "pickled?",
      annotations: "pickled?",
      stimulus_id: "str?",
    },
  },
  "client-desires-keys": { fields: { keys: "keys", client: "str?" } },
  "client-releases-keys": { fields: { keys: "keys", client: "str?", stimulus_id: "str?" } },
  "cancel-keys": { fields: { keys: "keys", client: "str?", force: "bool", reason: "str|nil", msg: "str|nil" } },
  "report-key": { fields: { key: "key?", client: "str?" } },
  "heartbeat-client": { fields: { client: "str?" } },
  "subscribe-topic": { fields: { topic: "str", client: "str?" } },
  "unsubscribe-topic": { fields: { topic: "str", client: "str?" } },
  "update-data": { fields: { who_has: "map", nbytes: "map", client: "str?" } },
  "close-client": { fields: { client: "str?", stimulus_id: "str?" } },
  "close-stream": { fields: {} },
  // Extensions (§15)
  "queue-future-release": { fields: { name: "str?", key: "key?", client: "str?" } },
  queue_release: { fields: { name: "str?", client: "str?" } },
  "variable-future-received-confirm": { fields: { name: "str?", key: "key?", token: "any?", client: "str?" } },
  variable_delete: { fields: { name: "str?", client: "str?" } },
  publish_flush_batched_send: { fields: { client: "str?", uid: "any" } },
} as const;

/** Client._stream_handlers */
export const SCHEDULER_TO_CLIENT = {
  "stream-start": { fields: { warning: "str?", error: "str?" } },
  "key-in-memory": { fields: { key: "key", type: "bytes?", workers: "strs?" } },
  "lost-data": { fields: { key: "key" } },
  "task-erred": { fields: { key: "key", exception: "serialized", traceback: "serialized?" } },
  "task-retried": { fields: { key: "key" } },
  "cancelled-keys": { fields: { keys: "keys", reason: "str?", msg: "str?" } },
  restart: { fields: {} },
  event: { fields: { topic: "str", event: "list" } },
  "adjust-heartbeat-interval": { fields: { interval: "float" } },
  error: { fields: { exception: "serialized" } },
  "stream-closed": { fields: {} },
  close: { fields: {} },
} as const;

/** Scheduler.stream_handlers, as workers use them. Which fields the scheduler needs is in wire-protocol.md §18. */
export const WORKER_TO_SCHEDULER = {
  "task-finished": {
    fields: {
      key: "key",
      run_id: "int",
      stimulus_id: "str",
      nbytes: "int",
      type: "bytes",
      typename: "str",
      metadata: "map|nil",
      startstops: "list",
      thread: "any?",
      status: "str?",
      worker: "str?",
      "*": "any",
    },
  },
  "task-erred": {
    fields: {
      key: "key",
      run_id: "int?",
      stimulus_id: "str",
      exception: "serialized",
      traceback: "serialized?",
      exception_text: "str?",
      traceback_text: "str?",
      thread: "any?",
      startstops: "list?",
      status: "str?",
      worker: "str?",
      "*": "any",
    },
  },
  reschedule: { fields: { key: "key", worker: "str?", stimulus_id: "str" } },
  "long-running": {
    fields: { key: "key", worker: "str?", run_id: "int", compute_duration: "float|nil", stimulus_id: "str" },
  },
  "add-keys": { fields: { keys: "keys?", worker: "str?", stimulus_id: "str?" } },
  "release-worker-data": { fields: { key: "key", worker: "str?", stimulus_id: "str" } },
  "request-refresh-who-has": { fields: { keys: "keys", worker: "str?", stimulus_id: "str" } },
  "steal-response": { fields: { key: "key", state: "str|nil", worker: "str?", stimulus_id: "str" } },
  "worker-status-change": { fields: { status: "str", worker: "str?", stimulus_id: "str" } },
  "log-event": { fields: { topic: "any", msg: "any", worker: "str?" } },
  "keep-alive": { fields: { "*": "any" } },
  "close-stream": { fields: {} },
} as const;

/** Worker.stream_handlers: one field more or less closes a stock worker. */
export const SCHEDULER_TO_WORKER = {
  "compute-task": {
    fields: {
      key: "key",
      run_id: "int",
      priority: "list",
      stimulus_id: "str",
      who_has: "map",
      nbytes: "map",
      run_spec: "pickled",
      resource_restrictions: "map|nil",
      actor: "bool",
      annotations: "map",
      span_id: "str|nil",
    },
  },
  "free-keys": { fields: { keys: "keys", stimulus_id: "str" } },
  "remove-replicas": { fields: { keys: "keys", stimulus_id: "str" } },
  "acquire-replicas": { fields: { who_has: "map", nbytes: "map", stimulus_id: "str" } },
  "steal-request": { fields: { key: "key", stimulus_id: "str" } },
  "refresh-who-has": { fields: { who_has: "map", stimulus_id: "str" } },
  "worker-status-change": { fields: { status: "str", stimulus_id: "str" } },
  "remove-worker": { fields: { worker: "str", stimulus_id: "str" } },
  close: { fields: { timeout: "duration?", executor_wait: "bool?", nanny: "bool?", reason: "str?" } },
  "close-stream": { fields: {} },
  "cancel-compute": { fields: { key: "key", stimulus_id: "str" } },
  "shuffle-fail": { fields: { shuffle_id: "str", run_id: "int", message: "str" } },
} as const;
