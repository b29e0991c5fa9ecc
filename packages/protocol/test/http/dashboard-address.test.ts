import { expect, test } from "vitest";
import { formatDashboardLink, parseDashboardAddress } from "../../src/http/dashboard-address.ts";

test("the forms of --dashboard-address", () => {
  const any = "0.0.0.0";
  expect(parseDashboardAddress("8787")).toEqual([{ host: any, port: 8787 }]);
  expect(parseDashboardAddress(":8787")).toEqual([{ host: any, port: 8787 }]);
  expect(parseDashboardAddress(":0")).toEqual([{ host: any, port: 0 }]);
  expect(parseDashboardAddress("foo:8787")).toEqual([{ host: "foo", port: 8787 }]);
  expect(parseDashboardAddress("http://10.0.0.1:80/")).toEqual([{ host: "10.0.0.1", port: 80 }]);
  expect(parseDashboardAddress("[::1]:8787")).toEqual([{ host: "::1", port: 8787 }]);
  expect(parseDashboardAddress("foo.example")).toEqual([{ host: "foo.example", port: 0 }]);
  expect(parseDashboardAddress(":8787,:8887")).toEqual([
    { host: any, port: 8787 },
    { host: any, port: 8887 },
  ]);
  for (const bad of ["a:b", "foo:8787:1", ":99999", "foo:8787/bar", "::1", "a b:1"]) {
    expect(() => parseDashboardAddress(bad), bad).toThrow(TypeError);
  }
});

test("the link that is logged", () => {
  const known = { scheme: "https", host: "::1", port: 1, prefix: "/p/q/" };
  const unknown: string[] = [];
  const format = (template: string): string | undefined =>
    formatDashboardLink(template, known, { USER: "alice" }, (name) => unknown.push(name));
  expect(format("{scheme}://{host}:{port}/status")).toBe("https://[::1]:1/p/q/status");
  expect(format("/user/{USER}/{port}")).toBe("/user/alice/1");
  expect(format("{NOPE}/{scheme}")).toBeUndefined();
  expect(unknown).toEqual(["NOPE"]);
});
