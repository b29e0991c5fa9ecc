import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["source"] },
  ssr: { resolve: { conditions: ["source"] } },
  test: {
    // A machine full of processes fails a test now and then: "(retry x1)" behind its name says so.
    retry: process.env.CI === "true" ? 1 : 0,
    include: ["packages/*/test/**/*.test.ts", "tests/**/*.test.ts"],
    // Generous: many tests start Python processes, and what else runs on the machine slows them down.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: "forks",
    // The machines that run this have two cores, and the end-to-end tests start processes of their own.
    maxWorkers: 2,
  },
});
