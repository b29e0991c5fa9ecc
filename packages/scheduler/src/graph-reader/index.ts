/** Graphs read without Python. */
export { KnownGlobals } from "./known-globals.ts";
export { GraphPickles, type GraphReading } from "./read-graph.ts";
