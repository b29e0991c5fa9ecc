import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["source"] },
  ssr: { resolve: { conditions: ["source"] } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "tests/**/*.test.ts"],
    // Generous: many tests start Python processes, and what else runs on the machine slows them down.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: "forks",
    // The machines that run this have two cores, and the end-to-end tests start processes of their own.
    maxWorkers: 2,
  },
});
