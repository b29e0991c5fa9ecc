import { errorReply, type Key, RemoteError } from "@dask-ts/protocol";
import { expect, it } from "vitest";
import { UnknownKeyError } from "../../src/core/errors.ts";
import { TestCore } from "./builders.ts";

it("an unknown key is Python's KeyError of that key", () => {
  const { core } = new TestCore();
  const texts = (["x", ["x", 0]] satisfies Key[]).map((key) => {
    try {
      core.retry([key], null, 1);
    } catch (error) {
      expect(error).toBeInstanceOf(UnknownKeyError);
      return new RemoteError(errorReply(error, "uncaught-error")).exceptionText;
    }
    return "nothing was thrown";
  });
  expect(texts).toEqual(["KeyError('x')", "KeyError(('x', 0))"]);
});
