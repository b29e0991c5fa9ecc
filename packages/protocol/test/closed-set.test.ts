import { describe, expect, it } from "vitest";
import { ClosedMap, ClosedSet, decode, encode, type Message, type Value } from "../src/index.ts";

const names = Array.from({ length: 5000 }, (_, i): Value => (i % 3 === 0 ? [`x-${i}`, i] : `key-${i}`));
const sent = (fields: Message): Message => (decode(encode([fields])) as Message[])[0]!;

describe("a large set of keys", () => {
  it("stays closed in update-graph, and gives its elements in order", () => {
    const { keys, after } = sent({ op: "update-graph", keys: new Set(names), after: 1 });
    expect(keys).toBeInstanceOf(ClosedSet);
    expect((keys as ClosedSet).size).toBe(5000);
    expect([...(keys as ClosedSet)]).toEqual(names);
    // Whatever follows is read from behind it.
    expect(after).toBe(1);
  });

  it("can be read by several at once", () => {
    const keys = sent({ op: "update-graph", keys: new Set(names) })["keys"] as ClosedSet;
    const [a, b] = [keys[Symbol.iterator](), keys[Symbol.iterator]()];
    for (const name of names) {
      expect(a.next().value).toEqual(name);
      expect(b.next().value).toEqual(name);
    }
    expect(a.next().done).toBe(true);
  });

  it("has its ranks beside it in a map, closed too", () => {
    const ranks = new Map(names.map((name, i) => [name, i]));
    const message = sent({ op: "update-graph", internal_priority: ranks, after: 1 });
    const closed = message["internal_priority"] as ClosedMap;
    expect(closed).toBeInstanceOf(ClosedMap);
    expect(closed.size).toBe(5000);
    expect([...closed]).toEqual([...ranks]);
    expect(message["after"]).toBe(1);
    expect(encode([message])).toEqual(encode([{ op: "update-graph", internal_priority: ranks, after: 1 }]));
    const few = new Map([["x", 1]]);
    expect(sent({ op: "update-graph", internal_priority: few })["internal_priority"]).toEqual(few);
  });

  it("is sent on as a set", () => {
    const message = sent({ op: "update-graph", keys: new Set(names) });
    expect(encode([message])).toEqual(encode([{ op: "update-graph", keys: new Set(names) }]));
  });

  it("is open where it is small, a list, or in another message", () => {
    expect(sent({ op: "update-graph", keys: new Set(["x"]) })["keys"]).toEqual(new Set(["x"]));
    expect(sent({ op: "update-graph", keys: names })["keys"]).toEqual(names);
    expect(sent({ op: "who_has", keys: new Set(names) })["keys"]).toBeInstanceOf(Set);
  });

  it("is refused where it is longer than its message", () => {
    const bytes = Buffer.from(encode([{ op: "update-graph", keys: new Set(names) }]));
    const at = bytes.indexOf("as-list") + "as-list".length;
    bytes.writeUInt16BE(60_000, at + 1);
    expect(() => decode(bytes)).toThrow("ends in the middle");
  });
});
