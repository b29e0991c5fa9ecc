/**
 * Plain pages: valid XML, relative links only, nothing from elsewhere, no scripts. What is shown comes from users and
 * peers, so everything is escaped, and the browser is told to run and load nothing but the style sheet.
 */
import type { HttpReply, HttpRoute } from "./route.ts";

const STYLE = `:root{color-scheme:light dark}
body{font:14px/1.5 system-ui,sans-serif;margin:1.5rem 2rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .7rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}
nav a{margin-right:1rem}pre{background:#8882;padding:.6rem;overflow:auto;max-height:40rem;margin:0}
meter,progress{width:8rem}.late{background:#c622}.note{opacity:.7}
`;

/** Three bars of tasks. */
const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#ef1161" d="M1 3h9v2H1z"/>' +
  '<path fill="#fc6e6b" d="M4 7h9v2H4z"/><path fill="#ffc11e" d="M6 11h9v2H6z"/></svg>';

const HOUR = { "Cache-Control": "max-age=3600" };

/** What all pages load: `/statics` is Dask's own folder in stock, `/static` that of Bokeh. */
export function staticRoutes(): HttpRoute[] {
  const icon = (): HttpReply => ({ type: "image/svg+xml", body: ICON, headers: HOUR });
  return [
    {
      path: "statics/css/base.css",
      handle: () => ({ type: "text/css; charset=utf-8", body: STYLE, headers: HOUR }),
    },
    { path: "static/icon.svg", handle: icon },
    { path: "favicon.ico", handle: icon },
  ];
}

/** Text as it stands in HTML and in attributes. */
export function escapeHtml(text: string): string {
  return (
    text
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      .replaceAll("'", "&#39;")
      // XML has no way to write these.
      .replaceAll(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "\ufffd")
  );
}

export interface PageParts {
  readonly title: string;
  /** Markup, escaped by the caller. */
  readonly body: string;
  /** Slashes in the page's own path. */
  readonly depth: number;
  /** Link text by path below the prefix. */
  readonly navigation?: readonly (readonly [path: string, text: string])[];
  /** The browser loads the page anew after so many seconds. */
  readonly refreshS?: number;
}

export function htmlPage({ title, body, depth, navigation = [], refreshS }: PageParts): HttpReply {
  const up = "../".repeat(depth);
  const refresh = refreshS === undefined ? "" : `<meta http-equiv="refresh" content="${refreshS}"/>`;
  const head =
    `<head><meta charset="utf-8"/><title>${escapeHtml(title)}</title>${refresh}` +
    `<link rel="icon" href="${up}static/icon.svg"/><link rel="stylesheet" href="${up}statics/css/base.css"/></head>`;
  const links = navigation.map(([path, text]) => link(up + path, text)).join(" ");
  const icon = `<img src="${up}static/icon.svg" alt="" width="16" height="16"/>`;
  const nav = `<nav>${icon} ${links}</nav>`;
  return {
    type: "text/html; charset=UTF-8",
    headers: {
      // Frames are allowed: JupyterLab shows pages in them.
      "Content-Security-Policy":
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'",
    },
    body: `<!DOCTYPE html>\n<html lang="en">${head}<body>${nav}<h1>${escapeHtml(title)}</h1>\n${body}</body></html>\n`,
  };
}

/** Cells are markup, escaped by the caller. */
export function htmlTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = columns.map((name) => `<th>${escapeHtml(name)}</th>`).join("");
  const body = rows.map((cells) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`).join("\n");
  return `<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
}

export function link(href: string, text: string): string {
  return `<a href="${escapeHtml(href)}">${escapeHtml(text)}</a>`;
}

export function jsonReply(value: unknown, status = 200): HttpReply {
  return { status, type: "application/json", body: JSON.stringify(value) };
}
