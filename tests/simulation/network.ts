/**
 * The network: connections that keep their order, each with its own random delays, so that messages of different
 * connections overtake each other. Batches are really encoded and decoded: what arrives is what a socket would bring, and
 * shares nothing with the sender.
 */
import {
  decodeMessage,
  encodeMessage,
  isMessage,
  type Message,
  type Value,
} from "../../packages/protocol/src/index.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

/** Changes what a message is on its way: nothing, itself, others instead. For bugs put in on purpose. */
export type Tamper = (from: string, to: string, message: Message) => readonly Message[];

export interface NetworkSettings {
  /** Seconds that every message takes. */
  readonly latency: number;
  /** Mean of what is added to it. */
  readonly jitter: number;
  /** Probability that a message takes up to `stall` seconds longer. */
  readonly stallChance: number;
  readonly stall: number;
}

export class Network {
  readonly world: World;
  tamper: Tamper | undefined;
  /** Messages delivered, by op. */
  readonly delivered: Map<string, number> = new Map();
  readonly #settings: NetworkSettings;
  readonly #random: Random;

  constructor(world: World, settings: NetworkSettings) {
    this.world = world;
    this.#settings = settings;
    this.#random = world.random.fork();
  }

  /** Seconds that something takes on its way. */
  delay(): number {
    const { latency, jitter, stallChance, stall } = this.#settings;
    const random = this.#random;
    const extra = stallChance > 0 && random.chance(stallChance) ? random.between(0, stall) : 0;
    return latency + random.exponential(jitter) + extra;
  }

  /** A message outside of the streams, with a connection of its own. */
  pass(work: () => void): void {
    this.world.after(this.delay(), work);
  }

  connect(opener: string, acceptor: string): [opener: End, acceptor: End] {
    const a = new End(this, opener, acceptor);
    const b = new End(this, acceptor, opener);
    a.attach(b);
    b.attach(a);
    return [a, b];
  }

  /** How many of `n` messages on the way still arrive after a crash. */
  survivors(n: number): number {
    return this.#random.below(n + 1);
  }

  /** Seconds for which a sender collects a batch. */
  collecting(): number {
    return this.#random.between(0, 0.002);
  }
}

interface Delivery {
  readonly arrival: number;
  cancel(): void;
}

/** One side of a connection. */
export class End {
  readonly name: string;
  readonly #network: Network;
  readonly #peerName: string;
  #peer: End | undefined;
  #closed = false;
  #outgoing: Message[] = [];
  #collecting: (() => void) | undefined;
  /** Batches on their way to the peer. */
  #deliveries: Delivery[] = [];
  #lastArrival = 0;
  #onBatch: (batch: readonly Message[]) => void = () => undefined;
  #onClose: () => void = () => undefined;

  constructor(network: Network, name: string, peerName: string) {
    this.#network = network;
    this.name = name;
    this.#peerName = peerName;
  }

  attach(peer: End): void {
    this.#peer = peer;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** `onClose` is called once where the other side ends the connection, not where this one does. */
  listen(onBatch: (batch: readonly Message[]) => void, onClose: () => void): void {
    this.#onBatch = onBatch;
    this.#onClose = onClose;
  }

  send(...messages: readonly Message[]): void {
    if (this.#closed) return;
    this.#outgoing.push(...messages);
    this.#collecting ??= this.#network.world.after(this.#network.collecting(), () => this.flush(), false);
  }

  flush(): void {
    this.#collecting?.();
    this.#collecting = undefined;
    if (this.#closed || this.#outgoing.length === 0) return;
    const frames = encodeMessage(this.#outgoing);
    this.#outgoing = [];
    this.#schedule(() => this.#peer?.receive(decodeMessage(frames)));
  }

  /** What was sent still arrives, then the peer sees the end. */
  close(): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    this.#schedule(() => this.#peer?.closedByPeer());
  }

  /** As where the process is killed: some of what was sent last is lost. */
  abort(): void {
    if (this.#closed) return;
    this.#collecting?.();
    this.#collecting = undefined;
    this.#outgoing = [];
    this.#closed = true;
    const kept = this.#network.survivors(this.#deliveries.length);
    for (const delivery of this.#deliveries.splice(kept)) delivery.cancel();
    this.#schedule(() => this.#peer?.closedByPeer());
  }

  #schedule(work: () => void): void {
    const { world } = this.#network;
    const arrival = Math.max(this.#lastArrival, world.now + this.#network.delay());
    this.#lastArrival = arrival;
    const cancel = world.after(
      arrival - world.now,
      () => {
        this.#deliveries.shift();
        work();
      },
      false,
    );
    this.#deliveries.push({ arrival, cancel });
  }

  receive(value: Value): void {
    if (this.#closed) return;
    const { tamper, delivered } = this.#network;
    const batch: Message[] = [];
    for (const message of value as readonly Value[]) {
      if (!isMessage(message)) throw new TypeError("an element of a batch is no message");
      const op = String(message["op"]);
      delivered.set(op, (delivered.get(op) ?? 0) + 1);
      if (tamper === undefined) batch.push(message);
      else batch.push(...tamper(this.#peerName, this.name, message));
    }
    this.#onBatch(batch);
  }

  closedByPeer(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#collecting?.();
    this.#collecting = undefined;
    this.#outgoing = [];
    for (const delivery of this.#deliveries.splice(0)) delivery.cancel();
    this.#onClose();
  }
}
