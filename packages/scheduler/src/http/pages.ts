/**
 * The pages at the addresses of stock's Bokeh pages: the facts of the cluster, plain, until there is a dashboard. Tabs of
 * JupyterLab and bookmarks keep working.
 */
import { type HttpReply, type HttpRoute, htmlPage, jsonReply } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import { NAVIGATION } from "./page.ts";
import { type Section, SECTIONS } from "./sections.ts";
import type { HttpOptions } from "./server.ts";

const REFRESH_S = 3;

/** Whoever asks within this time gets the same figures: many tabs cost no more than one. */
const SAME_MS = 500;

/** What each page shows. Those without a section draw what is not there yet. */
const PAGES: { readonly [name: string]: readonly Section[] } = {
  status: ["cluster", "progress", "workers", "errors"],
  workers: ["cluster", "workers"],
  tasks: ["progress", "errors"],
  system: ["scheduler"],
  profile: [],
  "profile-server": [],
  graph: ["groups"],
  groups: ["groups"],
  hardware: [],
  gpu: [],
  events: [],
  counters: ["scheduler"],
  stealing: [],
  exceptions: ["errors"],
  shuffle: [],
  "individual-task-stream": [],
  "individual-progress": ["progress"],
  "individual-graph": [],
  "individual-groups": ["groups"],
  "individual-group-progress": ["groups"],
  "individual-workers-memory": ["workers"],
  "individual-cluster-memory": ["cluster"],
  "individual-workers-transfer-bytes": ["workers"],
  "individual-cpu": ["workers"],
  "individual-nprocessing": ["workers"],
  "individual-occupancy": ["workers"],
  "individual-workers": ["workers"],
  "individual-exceptions": ["errors"],
  "individual-bandwidth-types": ["bandwidth"],
  "individual-bandwidth-workers": ["bandwidth"],
  "individual-workers-network": [],
  "individual-workers-disk": [],
  "individual-workers-network-timeseries": [],
  "individual-workers-cpu-timeseries": [],
  "individual-workers-memory-timeseries": [],
  "individual-workers-disk-timeseries": [],
  "individual-memory-by-key": ["prefixes"],
  "individual-compute-time-per-key": ["prefixes"],
  "individual-aggregate-time-per-action": ["prefixes"],
  "individual-scheduler-system": ["scheduler"],
  "individual-contention": ["scheduler"],
  "individual-fine-performance-metrics": [],
  "individual-profile": [],
  "individual-profile-server": [],
  "individual-gpu-memory": [],
  "individual-gpu-utilization": [],
  "individual-rmm-memory": [],
};

export function pageRoutes(ctx: SchedulerContext, { dashboard }: HttpOptions): HttpRoute[] {
  // The JupyterLab extension takes an answer here for a sign of life, and lists what it finds.
  const plots: HttpRoute = {
    path: "individual-plots.json",
    handle: () => jsonReply(dashboard ? individualPlots() : {}),
  };
  if (!dashboard) return [plots];
  const made = new Sections(ctx);
  return [
    plots,
    { path: "", handle: () => ({ status: 301, location: "status" }) },
    ...Object.entries(PAGES).map(([name, sections]) => ({
      path: name,
      handle: () => page(made, name, sections),
    })),
  ];
}

/** Name to path, of the plots that show something (distributed.http.scheduler.info.IndividualPlots). */
function individualPlots(): Record<string, string> {
  const plots: Record<string, string> = {};
  for (const [name, sections] of Object.entries(PAGES)) {
    if (name.startsWith("individual-") && sections.length > 0) plots[title(name)] = `/${name}`;
  }
  return plots;
}

/** `individual-workers-memory` → `Individual Workers Memory` */
function title(name: string): string {
  return name.replaceAll("-", " ").replaceAll(/\b[a-z]/g, (letter) => letter.toUpperCase());
}

function page(made: Sections, name: string, sections: readonly Section[]): HttpReply {
  const shown: readonly Section[] = sections.length === 0 ? ["cluster"] : sections;
  const note =
    sections.length === 0
      ? `Stock draws this with Bokeh. It is not here yet; what follows is the state of the cluster.`
      : `In place of stock's Bokeh page /${name}.`;
  const body = shown.map((section) => made.get(section)).join("\n");
  return htmlPage({
    title: `Dask: ${title(name.replace(/^individual-/, ""))}`,
    body: `${body}\n<p class="note">${note}</p>`,
    depth: 0,
    navigation: NAVIGATION,
    refreshS: REFRESH_S,
  });
}

/** Makes the sections, and keeps the last of each for a moment. */
class Sections {
  readonly #ctx: SchedulerContext;
  readonly #made: Map<Section, { readonly markup: string; readonly at: number }> = new Map();

  constructor(ctx: SchedulerContext) {
    this.#ctx = ctx;
  }

  get(section: Section): string {
    const now = performance.now();
    const known = this.#made.get(section);
    if (known !== undefined && now - known.at < SAME_MS) return known.markup;
    const markup = SECTIONS[section](this.#ctx);
    this.#made.set(section, { markup, at: now });
    return markup;
  }
}
