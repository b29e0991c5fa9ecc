/** Two ends of a comm over a real socket. */
import { type Comm, connect, listen } from "../../src/index.ts";

export interface Pair {
  readonly client: Comm;
  readonly server: Comm;
  close(): void;
}

export async function commPair(): Promise<Pair> {
  let resolve: (comm: Comm) => void = () => undefined;
  const accepted = new Promise<Comm>((r) => {
    resolve = r;
  });
  const listener = await listen("tcp://127.0.0.1:0", { onComm: (comm) => resolve(comm) });
  const client = await connect(listener.address);
  const server = await accepted;
  listener.close();
  return {
    client,
    server,
    close: () => {
      client.abort();
      server.abort();
    },
  };
}
