/** Topics and their subscribers (distributed.broker, wire-protocol.md §22). */
import { float, type Message, type Value } from "@dask-ts/protocol";

/** What a topic kept of one message: when it came (seconds) and what it was. */
export type TopicEvent = readonly [time: number, message: Value];

interface Topic {
  events: TopicEvent[];
  /** Messages ever published. */
  count: number;
  readonly subscribers: Set<string>;
}

export class EventBroker {
  readonly #topics: Map<string, Topic> = new Map();
  readonly #maxLength: number;
  readonly #send: (client: string, message: Message) => void;
  readonly #listeners: ((topic: string, message: Value) => void)[] = [];

  /**
   * @param maxLength events kept per topic
   * @param send takes an `event` message to the stream of a client; unknown clients are ignored
   */
  constructor(maxLength: number, send: (client: string, message: Message) => void) {
    this.#maxLength = Math.max(1, maxLength);
    this.#send = send;
  }

  publish(topics: string | readonly string[], message: Value, now: number): void {
    const event: TopicEvent = [now, message];
    for (const name of typeof topics === "string" ? [topics] : topics) {
      const topic = this.#topic(name);
      topic.events.push(event);
      topic.count++;
      // Cut in blocks: a shift per event would move the whole array each time.
      if (topic.events.length >= 2 * this.#maxLength) topic.events = topic.events.slice(-this.#maxLength);
      if (topic.subscribers.size > 0) {
        const sent: Message = { op: "event", topic: name, event: [float(now), message] };
        for (const client of topic.subscribers) this.#send(client, sent);
      }
      for (const listener of this.#listeners) listener(name, message);
    }
  }

  /** Calls back for every message of every topic; for parts of the scheduler itself. */
  listen(listener: (topic: string, message: Value) => void): void {
    this.#listeners.push(listener);
  }

  subscribe(topic: string, client: string): void {
    this.#topic(topic).subscribers.add(client);
  }

  unsubscribe(topic: string, client: string): void {
    this.#topics.get(topic)?.subscribers.delete(client);
  }

  /** The client is gone: nothing more is sent to it. */
  removeSubscriber(client: string): void {
    for (const topic of this.#topics.values()) topic.subscribers.delete(client);
  }

  /** Drops the events of a topic that nobody needs any more, and the topic itself where nobody listens. */
  truncate(name: string): void {
    const topic = this.#topics.get(name);
    if (topic === undefined) return;
    topic.events = [];
    if (topic.subscribers.size === 0) this.#topics.delete(name);
  }

  /** Kept events of one topic, oldest first. */
  events(name: string): readonly TopicEvent[] {
    return this.#topics.get(name)?.events.slice(-this.#maxLength) ?? [];
  }

  /** Kept events of all topics that have any. */
  *allEvents(): Generator<[name: string, events: readonly TopicEvent[]]> {
    for (const name of this.#topics.keys()) {
      const events = this.events(name);
      if (events.length > 0) yield [name, events];
    }
  }

  /** Messages ever published to a topic. */
  count(name: string): number {
    return this.#topics.get(name)?.count ?? 0;
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      topic = { events: [], count: 0, subscribers: new Set() };
      this.#topics.set(name, topic);
    }
    return topic;
  }
}

/** Events as they are sent: times are Python floats. */
export function eventsOnWire(events: readonly TopicEvent[]): Value {
  return events.map(([time, message]) => [float(time), message]);
}
