import { describe, expect, test } from "vitest";
import {
  addressFromUserArgs,
  formatHostPort,
  getAddressHost,
  getIp,
  getIpInterface,
  normalizeAddress,
  parseAddress,
  parseHostPort,
  resolveAddress,
} from "../src/index.ts";

test.each([
  ["tcp://127.0.0.1:80", "127.0.0.1", 80],
  ["tls://[::1]:80", "::1", 80],
  ["[fe80::1]:1", "fe80::1", 1],
  ["host:65535", "host", 65535],
  ["tcp://:8786", "", 8786],
])("%s", (address, host, port) => {
  expect(parseHostPort(address)).toEqual({ host, port });
  expect(formatHostPort(host, port)).toBe(parseAddress(address).loc);
});

test.each(["tcp://a", "a:b", "::1:80", "[::1", "[::1]80", "a:70000", "a:-1", "a:"])("%s is no address", (address) => {
  expect(() => parseHostPort(address)).toThrow(TypeError);
});

test("schemes", () => {
  expect(normalizeAddress("1.2.3.4:5")).toBe("tcp://1.2.3.4:5");
  expect(normalizeAddress("1.2.3.4:5", "tls")).toBe("tls://1.2.3.4:5");
  expect(normalizeAddress("ws://1.2.3.4:5")).toBe("ws://1.2.3.4:5");
  expect(getAddressHost("tls://[::1]:4")).toBe("::1");
});

test("names are resolved, IPv4 first", async () => {
  expect(await resolveAddress("tcp://localhost:1")).toBe("tcp://127.0.0.1:1");
  expect(await resolveAddress("tls://[::1]:1")).toBe("tls://[::1]:1");
  expect(await getIp()).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
  expect(await getIp("127.0.0.1")).toBe("127.0.0.1");
});

test("interfaces", () => {
  expect(getIpInterface("lo")).toBe("127.0.0.1");
  expect(() => getIpInterface("nope0")).toThrow(/'nope0' is not a valid network interface.*'lo'/);
});

describe("addressFromUserArgs", () => {
  test.each([
    [{ port: 8786 }, "tcp://:8786"],
    [{ defaultPort: 8786 }, "tcp://:8786"],
    [{ host: "1.2.3.4", port: 5 }, "tcp://1.2.3.4:5"],
    [{ host: "tls://1.2.3.4", port: 5 }, "tls://1.2.3.4:5"],
    [{ host: "tcp://1.2.3.4:6" }, "tcp://1.2.3.4:6"],
    [{ protocol: "tls://", port: 0 }, "tls://:0"],
    [{ requireEncryption: true, port: 1 }, "tls://:1"],
    [{ interface: "lo", port: 2 }, "tcp://127.0.0.1:2"],
    [{ host: "::1", port: 2 }, "tcp://[::1]:2"],
  ])("%j", (options, address) => {
    expect(addressFromUserArgs(options)).toBe(address);
  });
  test("contradictions", () => {
    expect(() => addressFromUserArgs({ host: "a:1", port: 2 })).toThrow(/port number given twice/);
    expect(() => addressFromUserArgs({ host: "a", interface: "lo" })).toThrow(/both interface and host/);
  });
});
