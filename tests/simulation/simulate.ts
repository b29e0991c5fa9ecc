/** `npm run simulate -- --seeds 1000`, or `--seed 17` to see the story of one; see docs/simulation.md. */
import { parseArgs } from "node:util";
import { BUGS } from "./bugs.ts";
import { run } from "./simulation.ts";

const USAGE = `Usage: npm run simulate -- [options]
  --seeds N    run N seeds (default 1000)
  --from N     begin with this seed (default 1)
  --seed N     run this seed only, and print its story
  --about TEXT print only the lines of the story that hold this text
  --bug NAME   put in a bug: ${[...BUGS.keys()].join(", ")}
  --validate   look at the whole state after every event
  --blind      without the checks of the cores themselves
  --keep-going do not stop at the first seed that fails`;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    about: { type: "string" },
    bug: { type: "string" },
    blind: { type: "boolean", default: false },
    validate: { type: "boolean", default: false },
    "keep-going": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) console.log(USAGE);
else if (values.seed !== undefined) process.exitCode = replay(Number(values.seed)) ? 0 : 1;
else process.exitCode = runMany(Number(values.from), Number(values.seeds)) ? 0 : 1;

function common(): { bug?: string; blind: boolean; validate: boolean } {
  const { bug, blind, validate } = values;
  return bug === undefined ? { blind, validate } : { bug, blind, validate };
}

/** Prints the story of one seed. */
function replay(seed: number): boolean {
  const result = run({ seed, keepStory: true, ...common() });
  const { about } = values;
  for (const line of result.lines) if (about === undefined || line.includes(about)) console.log(line);
  if (result.failure !== undefined) console.log(explain(result.failure));
  console.log(`seed ${seed}: ${result.events} events, ${result.seconds.toFixed(1)} s of virtual time, ${result.hash}`);
  return result.failure === undefined;
}

function runMany(first: number, count: number): boolean {
  const start = process.hrtime.bigint();
  const failed: number[] = [];
  let events = 0;
  let done = 0;
  for (let seed = first; seed < first + count; seed++) {
    const result = run({ seed, ...common() });
    events += result.events;
    done++;
    if (result.failure !== undefined) {
      failed.push(seed);
      console.log(`seed ${seed} fails: ${result.failure.message.split("\n")[0]}`);
      if (!values["keep-going"]) break;
    }
    if (done % 250 === 0) progress();
  }
  progress();
  if (failed.length > 0) console.log(`replay with: npm run simulate -- --seed ${failed[0]}`);
  return failed.length === 0;

  function progress(): void {
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    console.log(`${done} seeds, ${failed.length} failed, ${events} events, ${seconds.toFixed(1)} s`);
  }
}

function explain(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack ?? error.cause.message}` : "";
  return `${error.stack ?? error.message}${cause}`;
}
