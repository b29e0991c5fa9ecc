/** Sorting in steps: a built-in sort of 200,000 items by a comparison takes a tenth of a second in one go. */

/** Items sorted by the built-in sort, and merged, between two yields: about a millisecond. */
const RUN = 4096;

/** Stable. @returns `values` itself where they are in order already; otherwise a new array. */
export function* mergeSort<T>(
  values: readonly T[],
  compare: (a: T, b: T) => number,
): Generator<undefined, readonly T[], unknown> {
  const n = values.length;
  let i = 1;
  for (; i < n && compare(values[i - 1] as T, values[i] as T) <= 0; i++) if (i % RUN === 0) yield;
  if (i >= n) return values;
  let from: T[] = [];
  for (let start = 0; start < n; start += RUN) {
    if (start > 0) yield;
    for (const value of values.slice(start, start + RUN).sort(compare)) from.push(value);
  }
  for (let width = RUN; width < n; width *= 2) {
    const to: T[] = [];
    for (let start = 0; start < n; start += 2 * width) {
      const middle = Math.min(start + width, n);
      const end = Math.min(start + 2 * width, n);
      let left = start;
      let right = middle;
      while (to.length < end) {
        if (to.length % RUN === 0) yield;
        const first = right >= end || (left < middle && compare(from[left] as T, from[right] as T) <= 0);
        to.push(from[first ? left++ : right++] as T);
      }
    }
    from = to;
  }
  return from;
}
