/**
 * INSERT, UPDATE, DELETE and MERGE, as statements and inside WITH: what they read is restricted like a query's tables, and
 * the keys that they write count as occurrences, too, so that a row can't be written for another tenant.
 */
import type {
  DeleteStmt,
  InsertStmt,
  MergeStmt,
  MergeWhenClause,
  Node,
  RangeVar,
  ReturningClause,
  UpdateStmt,
  WithClause,
} from '@pgsql/types';
import { linksOf, termOf } from './conditions.ts';
import { bindFrom, type FromItem, holdsForAll, tableColumns } from './from.ts';
import {
  type Bound,
  type BoundQuery,
  bindExpressions,
  bindSelect,
  keysOfTerm,
  outputsOf,
  type Surroundings,
} from './query.ts';
import { type Columns, ItemColumns, opaque, Scope } from './scope.ts';
import type { Facts, KeyColumn, KeySet, Term } from './terms.ts';
import { bindWith } from './with.ts';

export function bindDataModifying(node: Node, around: Surroundings): BoundQuery {
  if ('InsertStmt' in node) return bindInsert(node.InsertStmt, around);
  if ('UpdateStmt' in node) return bindUpdate(node.UpdateStmt, around);
  if ('DeleteStmt' in node) return bindDelete(node.DeleteStmt, around);
  if ('MergeStmt' in node) return bindMerge(node.MergeStmt, around);
  throw new Error('not a statement that modifies rows');
}

interface Target extends Bound {
  /** Undefined where the table isn't tenant-owned. */
  readonly column: KeyColumn | undefined;
  readonly columns: Columns;
  readonly table: string;
  readonly alias: string;
}

function bindTarget(mention: RangeVar | undefined, around: Surroundings): Target {
  if (mention === undefined) throw new Error('a statement that modifies rows has a table');
  const { analysis } = around;
  analysis.visited.add(mention);
  const relation = analysis.relation(mention);
  const alias = mention.alias?.aliasname ?? mention.relname ?? '';
  // What is written through a view may go anywhere: rules and triggers decide.
  if ('name' in relation && analysis.isView(relation)) analysis.doubts.push(`it writes to view "${relation.name}"`);
  if (relation.kind !== 'tenant') {
    return { column: undefined, columns: opaque, table: alias, alias, restrict: () => undefined };
  }
  const column = analysis.keyColumn(relation.name);
  return {
    column,
    columns: tableColumns(column, analysis.tenantColumn),
    table: relation.name,
    alias,
    restrict: (facts) => analysis.restricted(column, facts),
  };
}

/** RETURNING sees the written rows. `key`: what is known of their key. */
function returning(
  exprs: readonly Node[],
  scope: Scope,
  items: readonly FromItem[],
  facts: Facts,
): Pick<BoundQuery, 'columns' | 'outputs'> {
  return outputsOf(exprs, scope, items, (term) => {
    const keys = keysOfTerm(term, facts);
    return keys === undefined ? undefined : { kind: 'set', keys };
  });
}

function bindInsert(insert: InsertStmt, around: Surroundings): BoundQuery {
  const withClause = bindWith(insert.withClause, around);
  const inner = { ...around, ctes: withClause.ctes };
  const target = bindTarget(insert.relation, inner);
  const source =
    insert.selectStmt !== undefined && 'SelectStmt' in insert.selectStmt
      ? bindSelect(insert.selectStmt.SelectStmt, inner)
      : undefined;
  const written = target.column === undefined ? undefined : writtenKeys(insert, source, inner);
  const known: Term | undefined = written?.keys === undefined ? undefined : { kind: 'set', keys: written.keys };
  const columns: Columns = {
    find: (name) => (name === around.analysis.tenantColumn && known !== undefined ? known : 'unknown'),
  };
  const scope = new Scope(around.outer);
  scope.name(target.alias, columns);
  scope.items = [columns];
  const returned = returning(insert.returningClause?.exprs ?? [], scope, [itemOf(columns)], inner.facts);
  const onConflict = insert.onConflictClause;
  const conflictScope = new Scope(around.outer);
  for (const name of [target.alias, 'excluded']) conflictScope.name(name, columns);
  conflictScope.items = [columns];
  const expressions = [
    bindExpressions(insert.returningClause?.exprs ?? [], scope, inner),
    bindExpressions([onConflict?.infer, onConflict?.targetList, onConflict?.whereClause], conflictScope, inner),
  ];
  return {
    ...returned,
    holds: [],
    restrict(facts) {
      withClause.restrict(facts);
      source?.restrict(facts);
      if (target.column !== undefined)
        around.analysis.occurrences.push({ table: target.table, keys: written?.keys, reason: written?.reason });
      assignments(onConflict?.targetList ?? [], target, conflictScope, facts, around);
      for (const expression of expressions) expression.restrict(facts);
    },
  };
}

const itemOf = (columns: Columns): FromItem => ({
  items: [new ItemColumns(columns)],
  names: new Map(),
  holds: [],
  conditionals: [],
  restrict: () => undefined,
});

/** The keys that an INSERT gives its rows. */
function writtenKeys(
  { cols = [], selectStmt }: InsertStmt,
  source: BoundQuery | undefined,
  { analysis, facts }: Surroundings,
): { readonly keys: KeySet | undefined; readonly reason?: string } {
  const key = analysis.tenantColumn;
  if (selectStmt === undefined) return { keys: undefined, reason: 'DEFAULT VALUES gives no tenant key' };
  if (cols.length === 0)
    return { keys: undefined, reason: `an INSERT without a list of columns does not show which is ${key}` };
  const position = cols.findIndex((node) => 'ResTarget' in node && node.ResTarget.name === key);
  if (position < 0) return { keys: undefined, reason: `the INSERT gives no ${key}` };
  if (source?.outputs === undefined)
    return { keys: undefined, reason: 'SELECT * does not show which column becomes the key' };
  const keys = keysOfTerm(source.outputs[position]?.term, facts.with(source.holds));
  return keys === undefined ? { keys, reason: `the inserted ${key} is not a constant or a parameter` } : { keys };
}

/** Assignments to the key column: it must stay within the same tenant. */
function assignments(
  targetList: readonly Node[],
  target: Target,
  scope: Scope,
  facts: Facts,
  { analysis }: Surroundings,
): void {
  if (target.column === undefined) return;
  for (const node of targetList) {
    if (!('ResTarget' in node) || node.ResTarget.name !== analysis.tenantColumn) continue;
    const keys = keysOfTerm(termOf(assigned(node.ResTarget.val), scope), facts);
    const reason = keys === undefined ? `the statement changes ${analysis.tenantColumn}` : undefined;
    analysis.occurrences.push({ table: target.table, keys, reason });
  }
}

/** The value in `SET (a, b) = (1, 2)`, too. */
function assigned(value: Node | undefined): Node | undefined {
  if (value === undefined || !('MultiAssignRef' in value)) return value;
  const { source, colno = 0 } = value.MultiAssignRef;
  return source !== undefined && 'RowExpr' in source ? source.RowExpr.args?.[colno - 1] : undefined;
}

const assignsKey = (targetList: readonly Node[], key: string): boolean =>
  targetList.some((node) => 'ResTarget' in node && node.ResTarget.name === key);

function bindUpdate(update: UpdateStmt, around: Surroundings): BoundQuery {
  const { targetList = [], whereClause, fromClause = [], returningClause, withClause, relation } = update;
  return bindFiltered({ relation, targetList, whereClause, fromClause, returningClause, withClause }, around);
}

function bindDelete(remove: DeleteStmt, around: Surroundings): BoundQuery {
  const { whereClause, usingClause: fromClause = [], returningClause, withClause, relation } = remove;
  return bindFiltered({ relation, targetList: [], whereClause, fromClause, returningClause, withClause }, around);
}

interface Filtered {
  readonly relation: RangeVar | undefined;
  readonly targetList: readonly Node[];
  readonly whereClause: Node | undefined;
  readonly fromClause: readonly Node[];
  readonly returningClause: ReturningClause | undefined;
  readonly withClause: WithClause | undefined;
}

/** UPDATE and DELETE: the table joined (inner) with what stands in FROM or USING, filtered by WHERE. */
function bindFiltered(statement: Filtered, around: Surroundings): BoundQuery {
  const withClause = bindWith(statement.withClause, around);
  const inner = { ...around, ctes: withClause.ctes };
  const target = bindTarget(statement.relation, inner);
  const scope = new Scope(around.outer);
  scope.name(target.alias, target.columns);
  scope.items = [target.columns];
  const items = statement.fromClause.map((node) => bindFrom(node, scope, inner));
  scope.items = [target.columns, ...items.flatMap((item) => item.items)];
  const own = holdsForAll(linksOf(statement.whereClause, scope), items);
  const ownFacts = inner.facts.with(own);
  const exprs = statement.returningClause?.exprs ?? [];
  const expressions = bindExpressions([statement.whereClause, statement.targetList, exprs], scope, {
    ...inner,
    facts: ownFacts,
  });
  const changesKey = assignsKey(statement.targetList, around.analysis.tenantColumn);
  const returned = changesKey
    ? { columns: opaque, outputs: undefined }
    : returning(exprs, scope, [itemOf(target.columns), ...items], ownFacts);
  return {
    ...returned,
    holds: [],
    restrict(facts) {
      withClause.restrict(facts);
      const inside = facts.with(own);
      target.restrict(inside);
      for (const item of items) item.restrict(inside);
      expressions.restrict(inside);
      assignments(statement.targetList, target, scope, inside, around);
    },
  };
}

/**
 * MERGE joins its source with its target: kept is the source where there is a WHEN NOT MATCHED [BY TARGET], and the target
 * where there is a WHEN NOT MATCHED BY SOURCE; the condition restricts only the sides that aren't kept.
 */
function bindMerge(merge: MergeStmt, around: Surroundings): BoundQuery {
  if (merge.sourceRelation === undefined) throw new Error('MERGE has a source');
  const withClause = bindWith(merge.withClause, around);
  const inner = { ...around, ctes: withClause.ctes };
  const target = bindTarget(merge.relation, inner);
  const scope = new Scope(around.outer);
  const source = bindFrom(merge.sourceRelation, scope, inner);
  const sourceItems = [...source.items];
  scope.name(target.alias, target.columns);
  scope.items = [target.columns, ...sourceItems];
  const whens = (merge.mergeWhenClauses ?? []).flatMap((node) =>
    'MergeWhenClause' in node ? [node.MergeWhenClause] : [],
  );
  const keepsSource = whens.some(({ matchKind }) => matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_TARGET');
  const keepsTarget = whens.some(({ matchKind }) => matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_SOURCE');
  const matched = holdsForAll(linksOf(merge.joinCondition, scope), [source]);
  const exprs = merge.returningClause?.exprs ?? [];
  const expressions = bindExpressions([merge.joinCondition, merge.mergeWhenClauses, exprs], scope, inner);
  return {
    columns: opaque,
    outputs: undefined,
    holds: [],
    restrict(facts) {
      withClause.restrict(facts);
      const withSource = facts.with(source.holds);
      const joined = facts.with(matched);
      source.restrict(keepsSource ? withSource : joined);
      target.restrict(keepsTarget ? facts : joined);
      expressions.restrict(keepsSource || keepsTarget ? facts : joined);
      for (const when of whens) writeOfMerge(when, target, scope, keepsSource ? withSource : joined, joined, around);
    },
  };
}

function writeOfMerge(
  when: MergeWhenClause,
  target: Target,
  scope: Scope,
  sourceFacts: Facts,
  joined: Facts,
  around: Surroundings,
): void {
  const { commandType, targetList = [], values = [] } = when;
  if (commandType === 'CMD_UPDATE') assignments(targetList, target, scope, joined, around);
  if (commandType !== 'CMD_INSERT' || target.column === undefined) return;
  const key = around.analysis.tenantColumn;
  const position = targetList.findIndex((node) => 'ResTarget' in node && node.ResTarget.name === key);
  const keys = position < 0 ? undefined : keysOfTerm(termOf(values[position], scope), sourceFacts);
  around.analysis.occurrences.push({
    table: target.table,
    keys,
    reason: keys === undefined ? `the inserted ${key} is not a constant or a parameter` : undefined,
  });
}
