/**
 * The defaults of dask 2026.8.0 (`dask.yaml`, `distributed.yaml`), with its spelling of every key. What each one does
 * is told in docs/configuration.md. The part outside `distributed` is read by Python code in clients and executors.
 */
import type { ConfigTree } from "./value.ts";

export const DEFAULTS: ConfigTree = {
  "temporary-directory": null,
  visualization: {
    engine: null,
  },
  tokenize: {
    "ensure-deterministic": false,
  },
  dataframe: {
    backend: "pandas",
    shuffle: {
      method: null,
      compression: null,
    },
    parquet: {
      "metadata-task-size-local": 512,
      "metadata-task-size-remote": 1,
      "minimum-partition-size": 75000000,
    },
    "convert-string": null,
    "query-planning": null,
  },
  array: {
    backend: "numpy",
    "chunk-size": "128MiB",
    "chunk-size-tolerance": 1.25,
    rechunk: {
      method: null,
      threshold: 4,
    },
    svg: {
      size: 120,
    },
    slicing: {
      "split-large-chunks": null,
    },
    "query-planning": null,
  },
  optimization: {
    annotations: {
      fuse: true,
    },
    tune: {
      active: true,
    },
    fuse: {
      active: null,
      "ave-width": 1,
      "max-width": null,
      "max-height": Number.POSITIVE_INFINITY,
      "max-depth-new-edges": null,
      "rename-keys": true,
      delayed: false,
    },
  },
  admin: {
    "async-client-fallback": null,
    traceback: {
      shorten: [
        "concurrent[\\\\\\/]futures[\\\\\\/]",
        "dask[\\\\\\/](base|core|local|multiprocessing|optimization|threaded|utils)\\.py",
        "dask[\\\\\\/]array[\\\\\\/]core\\.py",
        "dask[\\\\\\/]dataframe[\\\\\\/](core|methods)\\.py",
        "dask[\\\\\\/]_task_spec\\.py",
        "distributed[\\\\\\/](client|scheduler|utils|worker)\\.py",
        "tornado[\\\\\\/]gen\\.py",
        "pandas[\\\\\\/]core[\\\\\\/]",
      ],
    },
  },
  distributed: {
    version: 2,
    scheduler: {
      "allowed-failures": 3,
      bandwidth: 100000000,
      "blocked-handlers": [],
      "contact-address": null,
      "default-data-size": "1kiB",
      "reuse-broadcast-comm": true,
      "events-cleanup-delay": "1h",
      "idle-timeout": null,
      "no-workers-timeout": null,
      "work-stealing": true,
      "work-stealing-interval": "1s",
      "worker-saturation": 1.1,
      "rootish-taskgroup": 5,
      "rootish-taskgroup-dependencies": 5,
      "worker-ttl": "5 minutes",
      preload: [],
      "preload-argv": [],
      "unknown-task-duration": "500ms",
      "default-task-durations": {
        "rechunk-split": "1us",
        "split-shuffle": "1us",
        "split-taskshuffle": "1us",
        "split-stage": "1us",
      },
      validate: false,
      dashboard: {
        status: {
          "task-stream-length": 1000,
        },
        tasks: {
          "task-stream-length": 100000,
        },
        tls: {
          "ca-file": null,
          key: null,
          cert: null,
        },
        "bokeh-application": {
          allow_websocket_origin: ["*"],
          keep_alive_milliseconds: 500,
          check_unused_sessions_milliseconds: 500,
        },
      },
      locks: {
        "lease-validation-interval": "10s",
        "lease-timeout": "30s",
      },
      http: {
        routes: [
          "distributed.http.scheduler.prometheus",
          "distributed.http.scheduler.info",
          "distributed.http.scheduler.json",
          "distributed.http.health",
          "distributed.http.proxy",
          "distributed.http.statics",
        ],
      },
      "allowed-imports": ["dask", "distributed"],
      "active-memory-manager": {
        start: true,
        interval: "2s",
        measure: "optimistic",
        policies: [
          {
            class: "distributed.active_memory_manager.ReduceReplicas",
          },
        ],
      },
    },
    worker: {
      "blocked-handlers": [],
      "multiprocessing-method": "spawn",
      "use-file-locking": true,
      transfer: {
        "message-bytes-limit": "50MB",
      },
      connections: {
        outgoing: 50,
        incoming: 10,
      },
      preload: [],
      "preload-argv": [],
      daemon: true,
      validate: false,
      resources: {},
      lifetime: {
        duration: null,
        stagger: "0 seconds",
        restart: false,
      },
      profile: {
        enabled: true,
        interval: "10ms",
        cycle: "1000ms",
        "low-level": false,
      },
      memory: {
        "recent-to-old-time": "30s",
        rebalance: {
          measure: "optimistic",
          "sender-min": 0.3,
          "recipient-max": 0.6,
          "sender-recipient-gap": 0.1,
        },
        transfer: 0.1,
        target: 0.6,
        spill: 0.7,
        pause: 0.8,
        terminate: 0.95,
        "max-spill": false,
        "spill-compression": "auto",
        "monitor-interval": "100ms",
      },
      http: {
        routes: ["distributed.http.worker.prometheus", "distributed.http.health", "distributed.http.statics"],
      },
    },
    nanny: {
      preload: [],
      "preload-argv": [],
      environ: {},
      "pre-spawn-environ": {
        MALLOC_TRIM_THRESHOLD_: 65536,
        OMP_NUM_THREADS: 1,
        MKL_NUM_THREADS: 1,
        OPENBLAS_NUM_THREADS: 1,
      },
    },
    client: {
      "direct-to-workers": null,
      heartbeat: "5s",
      "scheduler-info-interval": "2s",
      "security-loader": null,
      preload: [],
      "preload-argv": [],
    },
    deploy: {
      "lost-worker-timeout": "15s",
      "cluster-repr-interval": "500ms",
    },
    adaptive: {
      interval: "1s",
      "target-duration": "5s",
      minimum: 0,
      maximum: Number.POSITIVE_INFINITY,
      "wait-count": 3,
    },
    comm: {
      retry: {
        count: 0,
        delay: {
          min: "1s",
          max: "20s",
        },
      },
      compression: false,
      shard: "64MiB",
      offload: "10MiB",
      "default-scheme": "tcp",
      "socket-backlog": 2048,
      zstd: {
        level: 3,
        threads: 0,
      },
      timeouts: {
        connect: "30s",
        tcp: "30s",
      },
      "require-encryption": null,
      tls: {
        ciphers: null,
        "min-version": 1.2,
        "max-version": null,
        "ca-file": null,
        scheduler: {
          cert: null,
          key: null,
        },
        worker: {
          key: null,
          cert: null,
        },
        client: {
          key: null,
          cert: null,
        },
      },
      websockets: {
        shard: "8MiB",
      },
    },
    diagnostics: {
      nvml: true,
      cudf: false,
      computations: {
        "max-history": 100,
        nframes: 0,
        "ignore-modules": [
          "asyncio",
          "functools",
          "threading",
          "datashader",
          "dask",
          "debugpy",
          "distributed",
          "ipykernel",
          "coiled",
          "cudf",
          "cuml",
          "matplotlib",
          "pluggy",
          "prefect",
          "rechunker",
          "xarray",
          "xgboost",
          "xdist",
          "__channelexec__",
          "execnet",
        ],
        "ignore-files": ["runpy", ".*py\\.?test.*", "pycharm", "get_output_via_markers"],
      },
      "erred-tasks": {
        "max-history": 100,
      },
    },
    p2p: {
      comm: {
        buffer: "1 GiB",
        concurrency: 10,
        "message-bytes-limit": "2 MiB",
        retry: {
          count: 10,
          delay: {
            min: "1s",
            max: "30s",
          },
        },
      },
      storage: {
        buffer: "100 MiB",
        disk: true,
      },
      threads: null,
    },
    dashboard: {
      link: "{scheme}://{host}:{port}/status",
      "export-tool": false,
      "graph-max-items": 5000,
      prometheus: {
        namespace: "dask",
      },
    },
    admin: {
      "large-graph-warning-threshold": "10MB",
      tick: {
        interval: "20ms",
        limit: "3s",
        cycle: "1s",
      },
      "max-error-length": 10000,
      "log-length": 10000,
      "log-format": "%(asctime)s - %(name)s - %(levelname)s - %(message)s",
      "low-level-log-length": 1000,
      "pdb-on-err": false,
      "system-monitor": {
        interval: "500ms",
        "log-length": 7200,
        disk: true,
        "host-cpu": false,
        gil: {
          enabled: true,
          interval: "1ms",
        },
      },
      "event-loop": "tornado",
    },
    rmm: {
      "pool-size": null,
    },
  }, // Not Dask's: what only this scheduler and this worker have.
  "dask-ts": {
    scheduler: {
      "native-graphs": true,
    },
    worker: {
      "termination-grace": "25s",
    },
  },
};
