import { expect, test } from "vitest";
import { remoteCommands, sshArguments, sshCommand, type SshFlags } from "../src/ssh-command.ts";

async function parse(...argv: string[]): Promise<{ readonly hosts: readonly string[]; readonly flags: SshFlags }> {
  let seen: { hosts: readonly string[]; flags: SshFlags } | undefined;
  await sshCommand((hosts, flags) => {
    seen = { hosts, flags };
    return Promise.resolve(0);
  }).parseAsync(argv, { from: "user" });
  return seen!;
}

test("every flag of stock's command goes where it belongs", async () => {
  const { hosts, flags } = await parse(
    "a",
    "b",
    "--scheduler",
    "s",
    "--scheduler-port",
    "9000",
    "--nthreads",
    "2",
    "--nworkers",
    "3",
    "--ssh-username",
    "me",
    "--ssh-port",
    "2222",
    "--ssh-private-key",
    "/key",
    "--log-directory",
    "/my logs",
    "--local-directory",
    "/scratch",
    "--remote-python",
    "/venv/bin/python",
    "--memory-limit",
    "2GB",
    "--worker-port",
    "9100:9200",
    "--nanny-port",
    "0",
    "--remote-dask-worker",
    "distributed.cli.dask_worker",
  );
  const [scheduler, first, second] = remoteCommands(hosts, flags);
  expect(scheduler).toMatchObject({ host: "s", role: "scheduler" });
  expect(scheduler!.argv.join(" ")).toBe("dask-scheduler --port 9000 --python /venv/bin/python --log-format text");
  expect(first!.argv.join(" ")).toBe(
    "dask-worker s:9000 --host a --nthreads 2 --nworkers 3 --memory-limit 2GB --worker-port 9100:9200 --nanny-port 0 " +
      "--local-directory /scratch --python /venv/bin/python --log-format text",
  );
  expect(second!.host).toBe("b");
  const args = sshArguments(first!, flags);
  expect(args.slice(0, -1)).toEqual(["-tt", "-o", "BatchMode=yes", "-p", "2222", "-i", "/key", "me@a"]);
  expect(args.at(-1)).toMatch(
    /^mkdir -p '\/my logs' && exec dask-worker s:9000 .* > '\/my logs\/dask_worker_a.log' 2>&1$/,
  );
});

test("defaults: the first host has the scheduler, workers their hosts", async () => {
  const { hosts, flags } = await parse("a", "b", "--nohost", "--remote-dask-worker", "my worker");
  const [scheduler, first] = remoteCommands(hosts, flags);
  expect(scheduler!.host).toBe("a");
  expect(first!.argv.join(" ")).not.toContain("--host");
  // Whatever a shell would take apart is quoted.
  expect(sshArguments(first!, flags).at(-1)).toMatch(/^'my worker' a:8786 --nthreads 0/);
});
