/** Thrown where a pickle holds something that this reader does not know; the graph host takes the graph then. */
export class NotKnown extends Error {
  readonly code = "DASK_GRAPH_NOT_KNOWN";
  override readonly name = "NotKnown";
}
