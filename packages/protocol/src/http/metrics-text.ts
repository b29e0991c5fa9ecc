/** The text format of Prometheus, version 0.0.4, as the Python client library writes it. */
import type { Histogram } from "./histogram.ts";

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export type Labels = Readonly<Record<string, string>>;
export type Sample = readonly [labels: Labels, value: number];

export class MetricsText {
  readonly #lines: string[] = [];

  gauge(name: string, help: string, value: number | readonly Sample[]): void {
    this.#family("gauge", name, help, value);
  }

  /** `_total` is added where the name does not end so, as the Python client library does. */
  counter(name: string, help: string, value: number | readonly Sample[]): void {
    this.#family("counter", name.endsWith("_total") ? name : `${name}_total`, help, value);
  }

  histogram(name: string, help: string, ...histograms: readonly (readonly [Labels, Histogram])[]): void {
    this.#head("histogram", name, help);
    for (const [labels, histogram] of histograms) {
      let count = 0;
      histogram.bounds.forEach((bound, i) => {
        count += histogram.counts[i] ?? 0;
        this.#sample(`${name}_bucket`, { ...labels, le: formatNumber(bound, true) }, count);
      });
      this.#sample(`${name}_bucket`, { ...labels, le: "+Inf" }, histogram.count);
      this.#sample(`${name}_sum`, labels, histogram.sum);
      this.#sample(`${name}_count`, labels, histogram.count);
    }
  }

  toString(): string {
    return `${this.#lines.join("\n")}\n`;
  }

  #family(type: "gauge" | "counter", name: string, help: string, value: number | readonly Sample[]): void {
    this.#head(type, name, help);
    if (typeof value === "number") this.#sample(name, {}, value);
    else for (const [labels, one] of value) this.#sample(name, labels, one);
  }

  #head(type: string, name: string, help: string): void {
    const text = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
    this.#lines.push(`# HELP ${name} ${text}`, `# TYPE ${name} ${type}`);
  }

  #sample(name: string, labels: Labels, value: number): void {
    const parts = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
    this.#lines.push(`${name}${parts.length === 0 ? "" : `{${parts.join(",")}}`} ${formatNumber(value)}`);
  }
}

/** `<namespace>_<subsystem>_`; an empty namespace is left out (PrometheusCollector.build_name). */
export function metricsPrefix(namespace: string, subsystem: string): string {
  return namespace === "" ? `${subsystem}_` : `${namespace}_${subsystem}_`;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** @param asFloat Bounds of buckets are floats in Python's spelling: `1.0`. */
function formatNumber(value: number, asFloat = false): string {
  if (Number.isFinite(value)) return asFloat && Number.isInteger(value) ? value.toFixed(1) : String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}
