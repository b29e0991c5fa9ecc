/** Long work in slices, so that the event loop belongs to others in between. */

const SLICE_MS = 5;

/** Runs the steps until they are done or the slice is over; undefined where there is more to do. */
export function slice<T>(steps: Generator<undefined, T>): { readonly value: T } | undefined {
  const end = performance.now() + SLICE_MS;
  do {
    const step = steps.next();
    if (step.done) return { value: step.value };
  } while (performance.now() < end);
  return undefined;
}

/** Runs all steps that are left, others first. */
export async function inSlices<T>(steps: Generator<undefined, T>): Promise<T> {
  for (;;) {
    await new Promise((resolve) => setImmediate(resolve));
    const result = slice(steps);
    if (result !== undefined) return result.value;
  }
}
