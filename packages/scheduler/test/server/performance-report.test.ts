/** The report's data and page, and that its script draws every plot without an error. */
import { runInNewContext } from "node:vm";
import { Float, type Value } from "@dask-ts/protocol";
import { expect, it } from "vitest";
import { profileNode, taskRectangles } from "../../src/server/performance-report-data.ts";
import { dataElement, reportPage, reportTable } from "../../src/server/performance-report-page.ts";
import { SCRIPT } from "../../src/server/performance-report-script.ts";
import { seconds } from "../../src/server/performance-report-text.ts";

function record(key: Value, thread: number, startstops: [action: string, start: number, stop: number][], ok = true) {
  return new Map<Value, Value>([
    ["key", key],
    ["worker", "tcp://a:1"],
    ["thread", thread],
    ["status", ok ? "OK" : "error"],
    [
      "startstops",
      startstops.map(
        ([action, start, stop]) =>
          new Map<Value, Value>([
            ["action", action],
            ["start", new Float(start)],
            ["stop", stop],
          ]),
      ),
    ],
  ]);
}

function frame(name: string, count: number, children: ReadonlyMap<Value, Value>[] = []): ReadonlyMap<Value, Value> {
  const description = new Map<Value, Value>([
    ["filename", `${name}.py`],
    ["name", name],
    ["line_number", 3],
    ["line", "  x = 1"],
  ]);
  return new Map<Value, Value>([
    ["description", description],
    ["count", count],
    ["children", new Map(children.map((child, i) => [`${i}`, child]))],
  ]);
}

it("each action of a task is a rectangle in the row of its thread, in microseconds since the first", () => {
  const plot = taskRectangles([
    record("inc-1", 7, [
      ["transfer", 100, 100.5],
      ["compute", 100.5, 101],
    ]),
    record(["sum-2", 0], 8, [["compute", 101, 103]], false),
    "no record",
  ]);
  expect(plot).toEqual({
    begin: 100,
    rows: ["tcp://a:1-7", "tcp://a:1-8"],
    names: ["inc", "sum"],
    actions: ["transfer", "compute"],
    keys: ["inc-1", "inc-1", "('sum-2', 0)"],
    rectangles: [
      [0, 0, 0, 0, 500_000],
      [0, 0, 1, 500_000, 500_000],
      [1, 1, 1, 1_000_000, 2_000_000, 1],
    ],
  });
});

it("a profile keeps the frames that can be seen", () => {
  const tree = frame("root", 100_000, [frame("big", 99_999), frame("tiny", 1)]);
  expect(profileNode(tree)).toEqual(["root", "root.py:3  x = 1", 100_000, [["big", "big.py:3  x = 1", 99_999, []]]]);
});

it("texts cannot break out of the page", () => {
  const evil = "</script><script>alert(1)</script>";
  const html = reportPage("t", [{ title: evil, body: dataElement("d", { evil }) + reportTable([evil], [[evil]]) }]);
  expect(html.match(/<script>/g)?.length).toBe(1);
  expect(html).not.toContain("alert(1)</script>");
});

it.each([
  [0.0000124, "12.40 us"],
  [0.5, "500.00 ms"],
  [12.345, "12.35 s"],
  [700, "11m 40s"],
  [7260, "2hr 1m"],
  [200_000, "2d 7hr"],
])("%f seconds read %s", (n, text) => expect(seconds(n)).toBe(text));

it("the script draws the plot of a tab when the tab is chosen", () => {
  const page = new StubPage({
    "task-stream": taskRectangles([record("inc-1", 7, [["compute", 1, 2]])]),
    system: { times: [1, 2], series: [{ title: "CPU", unit: "%", values: [1, 2] }] },
    "profile-compute": profileNode(frame("root", 2, [frame("f", 2)])),
  });
  runInNewContext(SCRIPT, { document: page.document, window: page.window });
  for (const button of page.buttons) button.click();
  expect(page.filled).toBe(1 + 2);
  expect(page.places[1]?.html).toContain("<svg");
});

/** As much of a browser as the script touches. */
class StubPage {
  filled = 0;
  readonly buttons: StubElement[] = [0, 1, 2].map((i) => new StubElement(this, { tab: `${i}` }));
  readonly places: StubElement[] = [
    new StubElement(this, { plot: "tasks" }),
    new StubElement(this, { plot: "system" }),
    new StubElement(this, { plot: "profile", of: "profile-compute" }),
  ];
  readonly window = { addEventListener: (): void => undefined, devicePixelRatio: 1, innerWidth: 800 };
  readonly document: unknown;

  constructor(data: Record<string, unknown>) {
    this.document = {
      body: new StubElement(this, {}),
      createElement: () => new StubElement(this, {}),
      getElementById: (id: string) => ({ textContent: JSON.stringify(data[id]) }),
      querySelectorAll: (selector: string): StubElement[] => {
        if (selector === "nav button" || selector === "[data-tab]") return this.buttons;
        const tab = /data-tab="(\d)"/.exec(selector)?.[1];
        return tab === undefined ? [] : this.places.slice(Number(tab), Number(tab) + 1);
      },
    };
  }
}

class StubElement {
  html = "";
  readonly style = {};
  readonly dataset: Record<string, string>;
  readonly classList = { add: (): void => undefined, toggle: (): void => undefined };
  readonly clientWidth = 100;
  readonly #page: StubPage;
  #onClick: (() => void) | undefined;

  constructor(page: StubPage, dataset: Record<string, string>) {
    this.#page = page;
    this.dataset = dataset;
  }
  addEventListener(event: string, listener: () => void): void {
    if (event === "click") this.#onClick = listener;
  }
  click(): void {
    this.#onClick?.();
  }
  appendChild(child: StubElement): StubElement {
    return child;
  }
  insertAdjacentHTML(_where: string, html: string): void {
    this.html += html;
  }
  getContext(): unknown {
    const page = this.#page;
    const nothing = (): void => undefined;
    const fillRect = (): void => {
      page.filled++;
    };
    return {
      scale: nothing,
      fillRect,
      save: nothing,
      beginPath: nothing,
      rect: nothing,
      clip: nothing,
      fillText: nothing,
      restore: nothing,
    };
  }
}
