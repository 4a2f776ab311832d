/**
 * What a statement has in it, found by walking the whole parse tree without understanding it, so that nothing is missed:
 * relations, function calls, row locks, writes, settings changed by function.
 */
import type { FuncCall, RangeVar } from '@pgsql/types';
import { functionName, isBuiltin, isVolatile } from './functions.ts';
import { forEachChild } from './walk.ts';

export interface Inventory {
  readonly mentions: ReadonlySet<RangeVar>;
  readonly calls: readonly FuncCall[];
  readonly hasRowLocks: boolean;
  /** INSERT, UPDATE, DELETE, MERGE, or SELECT INTO somewhere, in WITH for example. */
  readonly hasWrites: boolean;
  /** What INSERT, UPDATE, DELETE and MERGE write to. */
  readonly targets: readonly RangeVar[];
}

const writes = ['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'intoClause'] as const;

const targeting = ['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt'] as const;

export function takeInventory(statement: object): Inventory {
  const mentions = new Set<RangeVar>();
  const calls: FuncCall[] = [];
  const targets: RangeVar[] = [];
  let hasRowLocks = false;
  let hasWrites = false;
  const visit = (node: object): void => {
    if ('relname' in node && typeof node.relname === 'string') mentions.add(node as RangeVar);
    else if ('funcname' in node && Array.isArray(node.funcname)) calls.push(node as FuncCall);
    if ('lockingClause' in node) hasRowLocks = true;
    hasWrites ||= writes.some((key) => key in node);
    for (const key of targeting) {
      const { relation } = (node as Partial<Record<string, { relation?: RangeVar }>>)[key] ?? {};
      if (relation !== undefined) targets.push(relation);
    }
    forEachChild(node, visit);
  };
  visit(statement);
  return { mentions, calls, hasRowLocks, hasWrites, targets };
}

/** Free of side effects, as far as the catalogue knows; a function that it doesn't know is none of the volatile ones. */
export const isRead = (inventory: Inventory, volatileFunctions: ReadonlySet<string>): boolean =>
  !inventory.hasRowLocks && !inventory.hasWrites && !callsVolatile(inventory, volatileFunctions);

export const callsVolatile = ({ calls }: Inventory, volatileFunctions: ReadonlySet<string>): boolean =>
  calls.some((call) => isVolatile(call, volatileFunctions));

/** Lower-case names of the functions called, each once, without their schemas. */
export const calledNames = ({ calls }: Inventory): readonly string[] => [
  ...new Set(calls.map((call) => functionName(call).toLowerCase())),
];

/** A function that may read tables of its own. */
export const foreignCall = ({ calls }: Inventory): string | undefined => {
  const found = calls.find((call) => !isBuiltin(call));
  return found === undefined ? undefined : functionName(found);
};
