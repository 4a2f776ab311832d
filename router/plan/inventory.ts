/**
 * What a statement has in it, found by walking the whole parse tree without understanding it, so that nothing is missed:
 * relations, function calls by whatever notation, row locks, writes.
 */
import type { FuncCall, MergeStmt, RangeVar } from '@pgsql/types';
import { type FunctionCatalogue, functionName, type Judgement, namesOf, worst } from './functions.ts';
import { forEachChild } from './walk.ts';

export interface Inventory {
  readonly mentions: ReadonlySet<RangeVar>;
  readonly calls: readonly FuncCall[];
  /** What is called, by call, operator, cast or as an attribute; of operators and casts only those that aren't Postgres' own. */
  readonly called: ReadonlyMap<string, Judgement>;
  readonly hasRowLocks: boolean;
  /** INSERT, UPDATE, DELETE, MERGE, or SELECT INTO somewhere, in WITH for example. */
  readonly hasWrites: boolean;
  /** What INSERT, UPDATE, DELETE and MERGE write to. */
  readonly targets: readonly RangeVar[];
  readonly merges: readonly MergeStmt[];
}

const writes = ['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'intoClause'] as const;

const targeting = ['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt'] as const;

/** Where operators stand: expressions, `x op ANY (SELECT ...)`, ORDER BY ... USING. BETWEEN is two of them. */
const operatorKeys = ['name', 'operName', 'useOp'] as const;

export function takeInventory(statement: object, functions: FunctionCatalogue): Inventory {
  const mentions = new Set<RangeVar>();
  const calls: FuncCall[] = [];
  const called = new Map<string, Judgement>();
  const targets: RangeVar[] = [];
  const merges: MergeStmt[] = [];
  let hasRowLocks = false;
  let hasWrites = false;
  const note = (name: string, judgement: Judgement | undefined): void => {
    if (judgement !== undefined) called.set(name, worst(called.get(name), judgement));
  };
  const visit = (node: object): void => {
    if ('relname' in node && typeof node.relname === 'string') mentions.add(node as RangeVar);
    else if ('funcname' in node && Array.isArray(node.funcname)) {
      const call = node as FuncCall;
      calls.push(call);
      note(functionName(call), functions.ofCall(call));
    } else if ('fields' in node && Array.isArray(node.fields) && node.fields.length > 1) {
      const name = namesOf(node.fields as object[]).at(-1) ?? '';
      note(name, functions.ofAttribute(name));
    } else if ('indirection' in node && Array.isArray(node.indirection)) {
      for (const name of namesOf(node.indirection as object[])) note(name, functions.ofAttribute(name));
    } else if ('typeName' in node && 'arg' in node) {
      const names = namesOf((node.typeName as { names?: object[] }).names);
      note(names.at(-1) ?? '', functions.ofCast(names));
    }
    for (const key of operatorKeys) {
      const names = (node as Partial<Record<string, unknown>>)[key];
      if (!Array.isArray(names)) continue;
      const text = namesOf(names as object[]);
      const last = text.at(-1) ?? '';
      for (const symbol of last.includes('BETWEEN') ? ['<=', '>='] : [last])
        note(symbol, functions.ofOperator([...text.slice(0, -1), symbol]));
    }
    if ('MergeStmt' in node) merges.push(node.MergeStmt as MergeStmt);
    if ('lockingClause' in node) hasRowLocks = true;
    hasWrites ||= writes.some((key) => key in node);
    for (const key of targeting) {
      const { relation } = (node as Partial<Record<string, { relation?: RangeVar }>>)[key] ?? {};
      if (relation !== undefined) targets.push(relation);
    }
    forEachChild(node, visit);
  };
  visit(statement);
  return { mentions, calls, called, hasRowLocks, hasWrites, targets, merges };
}

/** Free of side effects, as the catalogue has it. */
export const isRead = (inventory: Inventory): boolean =>
  !inventory.hasRowLocks &&
  !inventory.hasWrites &&
  ![...inventory.called.values()].some(({ isVolatile }) => isVolatile);

/** Lower-case names of what is called, each once, without schemas. */
export const calledNames = ({ called }: Inventory): readonly string[] => [
  ...new Set([...called.keys()].map((name) => name.toLowerCase())),
];

/** Nothing is called but what comes with Postgres. */
export const callsShippedOnly = ({ called }: Inventory): boolean =>
  [...called.values()].every(({ isShipped }) => isShipped);

/** A function that may read tables of its own. */
export const foreignCall = ({ called }: Inventory): string | undefined => {
  for (const [name, { isForeign }] of called) if (isForeign) return name;
  return undefined;
};
