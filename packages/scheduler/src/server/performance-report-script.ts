/** The script inside a performance report: tabs, and plots on canvases that zoom with the wheel and drag sideways. */

/** Plain JavaScript for any browser of the last years; it uses nothing but what is in the document. */
export const SCRIPT: string = String.raw`
"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { className: "tip" }));
  const drawn = new Set();

  const colorOf = (text) => {
    let hash = 7;
    for (const c of text) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
    return "hsl(" + ((hash * 137.5) % 360) + " 58% " + (52 + (hash % 4) * 5) + "%)";
  };
  const time = (us) => us >= 1e6 ? (us / 1e6).toFixed(2) + " s" : us >= 1e3 ? (us / 1e3).toFixed(2) + " ms" : us + " us";
  const bytes = (n) => {
    let i = 0;
    while (n >= 1024 && i < 5) { n /= 1024; i++; }
    return n.toFixed(i ? 2 : 0) + " " + ["B", "kiB", "MiB", "GiB", "TiB", "PiB"][i];
  };

  // A canvas of boxes {x, w, y, color, label, text}: x and w in units of its own, y is a row.
  function boxes(place, list, width, rows, rowHeight, onPick) {
    place.innerHTML = '<p class="hint">Wheel: zoom. Drag: move. Double click: all.</p>';
    const canvas = place.appendChild(document.createElement("canvas"));
    const context = canvas.getContext("2d");
    let from = 0, to = width;
    const draw = () => {
      const scale = window.devicePixelRatio || 1;
      const pixels = canvas.clientWidth;
      canvas.width = pixels * scale;
      canvas.height = rows * rowHeight * scale;
      canvas.style.height = rows * rowHeight + "px";
      context.scale(scale, scale);
      context.font = "11px system-ui, sans-serif";
      context.textBaseline = "middle";
      const k = pixels / (to - from);
      for (const box of list) {
        const x = (box.x - from) * k, w = Math.max(box.w * k, 0.6);
        if (x > pixels || x + w < 0) continue;
        context.globalAlpha = box.alpha || 1;
        context.fillStyle = box.color;
        context.fillRect(x, box.y * rowHeight, w, rowHeight - 1);
        context.globalAlpha = 1;
        if (box.label && w > 30) {
          context.save();
          context.beginPath();
          context.rect(x, box.y * rowHeight, w - 2, rowHeight);
          context.clip();
          context.fillStyle = "#000";
          context.fillText(box.label, Math.max(x, 0) + 3, (box.y + 0.5) * rowHeight);
          context.restore();
        }
      }
    };
    const at = (event) => {
      const r = canvas.getBoundingClientRect();
      const x = from + ((event.clientX - r.left) / r.width) * (to - from);
      const y = Math.floor((event.clientY - r.top) / rowHeight);
      const near = ((to - from) / r.width) * 2;
      for (let i = list.length - 1; i >= 0; i--) {
        const box = list[i];
        if (box.y === y && box.x - near <= x && x <= box.x + box.w + near) return [box, x];
      }
      return [undefined, x];
    };
    let held = null;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [, x] = at(event);
      const f = event.deltaY > 0 ? 1.25 : 0.8;
      from = Math.max(0, x - (x - from) * f);
      to = Math.min(width, x + (to - x) * f);
      draw();
    }, { passive: false });
    canvas.addEventListener("mousedown", (event) => { held = [event.clientX, from, to]; });
    window.addEventListener("mouseup", () => { held = null; });
    canvas.addEventListener("mousemove", (event) => {
      if (held) {
        const move = ((event.clientX - held[0]) / canvas.clientWidth) * (held[2] - held[1]);
        const span = held[2] - held[1];
        from = Math.min(Math.max(0, held[1] - move), width - span);
        to = from + span;
        draw();
      }
      const [box] = at(event);
      tip.style.display = box ? "block" : "none";
      if (!box) return;
      tip.textContent = box.text;
      tip.style.left = Math.min(event.clientX + 12, window.innerWidth - 380) + "px";
      tip.style.top = event.clientY + 14 + "px";
    });
    canvas.addEventListener("mouseleave", () => { tip.style.display = "none"; });
    canvas.addEventListener("dblclick", () => { from = 0; to = width; draw(); });
    if (onPick) canvas.addEventListener("click", (event) => {
      const [box] = at(event);
      if (box) { [from, to] = onPick(box); draw(); }
    });
    window.addEventListener("resize", draw);
    draw();
  }

  const plots = {
    tasks(place) {
      const plot = data("task-stream");
      const other = { transfer: "red", "disk-write": "orange", "disk-read": "orange", deserialize: "gray" };
      let width = 1;
      const list = plot.rectangles.map(([row, name, action, start, length, failed], i) => {
        width = Math.max(width, start + length);
        const kind = plot.actions[action];
        const title = (kind === "compute" ? "" : kind + "-") + plot.names[name];
        return {
          x: start, w: length, y: row, label: title, alpha: kind === "compute" ? 1 : 0.4,
          color: other[kind] || (failed ? "black" : colorOf(plot.names[name])),
          text: title + "\n" + plot.keys[i] + "\n" + time(length) + "\n" + plot.rows[row],
        };
      });
      if (list.length === 0) { place.textContent = "No task ended in this time."; return; }
      boxes(place, list, width, plot.rows.length, Math.max(6, Math.min(24, 600 / plot.rows.length)));
    },
    profile(place) {
      const root = data(place.dataset.of);
      const list = [];
      let depth = 0;
      const walk = (node, x, y) => {
        const [name, where, count, children] = node;
        depth = Math.max(depth, y + 1);
        const share = ((100 * count) / root[2]).toFixed(1) + " %";
        list.push({ x, w: count, y, label: name, color: where ? colorOf(where.split(":")[0]) : "#ccc",
          text: (name || "all") + "\n" + where + "\n" + share + " of the samples" });
        for (const child of children) { walk(child, x, y + 1); x += child[2]; }
      };
      walk(root, 0, 0);
      boxes(place, list, root[2], depth, 18, (box) => [box.x, box.x + box.w]);
    },
    system(place) {
      const { times, series } = data("system");
      const w = 900, h = 120;
      for (const { title, unit, values } of series) {
        const top = Math.max(...values, 1e-9), span = times[times.length - 1] - times[0] || 1;
        const points = values.map((v, i) => [(w * (times[i] - times[0])) / span, h - (h * v) / top].map((n) => n.toFixed(1)).join());
        const most = unit === "B" ? bytes(top) : top.toFixed(unit ? 1 : 0) + " " + unit;
        place.insertAdjacentHTML("beforeend", "<h3>" + title + '</h3><p class="hint">most: ' + most + ", over " + span.toFixed(1) + " s</p>" +
          '<svg viewBox="0 0 ' + w + " " + h + '" width="100%" height="' + h + '" preserveAspectRatio="none" style="background:#f5f5f7">' +
          '<polyline fill="none" stroke="#3b6fd4" stroke-width="1.5" vector-effect="non-scaling-stroke" points="' + points.join(" ") + '"/></svg>');
      }
    },
  };

  function show(tab) {
    for (const element of all("[data-tab]")) element.classList.toggle("on", element.dataset.tab === tab);
    for (const place of all('section[data-tab="' + tab + '"] [data-plot]')) {
      if (drawn.has(place)) continue;
      drawn.add(place);
      plots[place.dataset.plot](place);
    }
  }
  document.body.classList.add("script");
  for (const button of all("nav button")) button.addEventListener("click", () => show(button.dataset.tab));
  show("0");
})();
`;
