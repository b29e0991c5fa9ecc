import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Run by scripts/containers.mjs, which builds the image first; the suite of the packages does not look for these.
    include: ["tests/containers/*.spec.ts"],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    pool: "forks",
    // Containers start, wait for each other and end: most of a file's time is nobody's work.
    maxWorkers: 3,
  },
});
