import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // A machine full of processes fails a test now and then: "(retry x1)" behind its name says so.
    retry: process.env.CI === "true" ? 1 : 0,
    // Run by scripts/containers.mjs, which builds the image first; the suite of the packages does not look for these.
    include: ["tests/containers/*.spec.ts"],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    pool: "forks",
    // Containers start, wait for each other and end: most of a file's time is nobody's work.
    maxWorkers: 3,
  },
});
