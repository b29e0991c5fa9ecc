/** Replies. HTML of the plain pages is valid XML, has relative links only and loads nothing from elsewhere. */
import type { HttpReply } from "./server.ts";

const STYLE =
  "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color:#1b1b1f}table{border-collapse:collapse}" +
  "td,th{padding:.25rem .75rem;border-bottom:1px solid #ddd;text-align:left}nav a{margin-right:1rem}" +
  "pre{background:#f5f5f7;padding:1rem;overflow:auto}";

/** Text as it stands in HTML and in attributes. */
export function escapeHtml(text: string): string {
  return (
    text
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      // XML has no way to write these.
      .replaceAll(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd]/gu, "\ufffd")
  );
}

/** @param body markup, escaped by the caller */
export function page(title: string, body: string, navigation = ""): HttpReply {
  const head = `<head><meta charset="utf-8"/><title>${escapeHtml(title)}</title><style>${STYLE}</style></head>`;
  return {
    type: "text/html; charset=UTF-8",
    body: `<!DOCTYPE html>\n<html lang="en">${head}<body>${navigation}<h1>${escapeHtml(title)}</h1>${body}</body></html>\n`,
  };
}

/** Cells are markup, escaped by the caller. */
export function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = columns.map((name) => `<th>${escapeHtml(name)}</th>`).join("");
  const body = rows.map((cells) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`).join("");
  return `<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
}

export function link(href: string, text: string): string {
  return `<a href="${escapeHtml(href)}">${escapeHtml(text)}</a>`;
}

export function json(value: unknown, status = 200): HttpReply {
  return { status, type: "application/json", body: JSON.stringify(value) };
}
