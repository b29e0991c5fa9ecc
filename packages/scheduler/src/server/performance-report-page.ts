/** The frame of a performance report: tabs, tables, data for its script. */
import { SCRIPT } from "./performance-report-script.ts";

export interface Tab {
  readonly title: string;
  /** Markup, escaped by the caller. */
  readonly body: string;
}

const STYLE = `
body{font:14px/1.45 system-ui,sans-serif;margin:0;color:#1b1b1f}
nav{position:sticky;top:0;background:#f5f5f7;border-bottom:1px solid #ddd;padding:0 1rem}
nav button{font:inherit;border:0;background:none;padding:.6rem .8rem;cursor:pointer;border-bottom:3px solid transparent}
nav button.on{border-color:#ef8f3b;font-weight:600}
section{padding:1rem 2rem}
.script section{display:none}.script section.on{display:block}
table{border-collapse:collapse}td,th{padding:.25rem .75rem;border-bottom:1px solid #ddd;text-align:left}
pre{background:#f5f5f7;padding:1rem;overflow:auto}
canvas{display:block;width:100%;cursor:crosshair}
.hint{color:#666;font-size:12px}
.tip{position:fixed;pointer-events:none;background:#1b1b1f;color:#fff;padding:.3rem .5rem;border-radius:4px;
font:12px/1.4 ui-monospace,monospace;max-width:60ch;white-space:pre-wrap;overflow-wrap:anywhere;display:none;z-index:9}
`;

export function reportPage(title: string, tabs: readonly Tab[]): string {
  const buttons = tabs.map((tab, i) => `<button type="button" data-tab="${i}">${escapeText(tab.title)}</button>`);
  const sections = tabs.map((tab, i) => `<section data-tab="${i}">${heading(tab, i)}${tab.body}</section>`);
  return `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/><title>${escapeText(title)}</title><style>${STYLE}</style></head>
<body><nav>${buttons.join("")}</nav>
${sections.join("\n")}
<script>${SCRIPT}</script>
</body></html>
`;
}

/** The first tab has a heading of its own. */
function heading(tab: Tab, i: number): string {
  return i === 0 ? "" : `<h2>${escapeText(tab.title)}</h2>`;
}

/** Cells are texts. */
export function reportTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "<p>Nothing to report</p>";
  const cells = (tag: string, texts: readonly string[]): string =>
    `<tr>${texts.map((text) => `<${tag}>${escapeText(text)}</${tag}>`).join("")}</tr>`;
  return `<table><thead>${cells("th", columns)}</thead><tbody>${rows.map((row) => cells("td", row)).join("")}</tbody></table>`;
}

/** Data for the script. It stands in the document as JSON, in which no markup can begin. */
export function dataElement(id: string, data: unknown): string {
  return `<script type="application/json" id="${id}">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>`;
}

export function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
