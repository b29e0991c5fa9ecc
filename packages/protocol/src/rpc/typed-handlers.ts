/** Handlers whose fields have the types of an op table. */
import type { Fields, OpTable } from "../ops/spec.ts";
import type { RpcContext, RpcHandlers, RpcResult } from "./server.ts";

export type TypedHandlers<Table extends OpTable> = {
  readonly [Op in keyof Table]?: (fields: Fields<Table, Op>, context: RpcContext) => RpcResult | Promise<RpcResult>;
};

/**
 * Handlers for ops of `table`; an op that the table lacks does not compile. Serve them with a `fieldChecker` of the same
 * table, which makes the types true.
 */
export function typedHandlers<Table extends OpTable>(_table: Table, handlers: TypedHandlers<Table>): RpcHandlers {
  return handlers as unknown as RpcHandlers;
}
