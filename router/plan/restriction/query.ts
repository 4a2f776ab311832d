/**
 * SELECT, at any depth: binds names first (`bindSelect`), then hands facts down (`restrict`).
 *
 * The question is whether the statement's result stays the same when only rows of the key's tenant exist, since that is what
 * the tenant's shard and the session's pin will show it. An equality restricts a table if every combination of rows that
 * breaks it is dropped anyway: WHERE of the same query, ON of an inner join, ON of an outer join for the side that is filled
 * with NULLs (but not for the side that is kept). Conditions of a query hold for its subqueries too, which are evaluated for
 * rows that satisfy them or don't matter. Conditions on the columns of a derived table reach into it only if filtering
 * before is the same as filtering after: no LIMIT, no window, no grouping sets, no DISTINCT ON, no set operation.
 */
import type { FuncCall, Node, ResTarget, SelectStmt } from '@pgsql/types';
import type { FunctionCatalogue } from '../functions.ts';
import { contains, forEachChild } from '../walk.ts';
import type { Analysis } from './analysis.ts';
import { columnNames, linksOf, termOf } from './conditions.ts';
import { constantKeys } from './constants.ts';
import { bindFrom, type FromItem, holdsForAll } from './from.ts';
import { type Columns, DerivedColumns, findAmong, remembered, Scope } from './scope.ts';
import { Facts, type Link, type Term, unionOfKeys } from './terms.ts';
import { bindWith, type Ctes } from './with.ts';

/** Something that takes the facts that hold where it stands. */
export interface Bound {
  readonly restrict: (facts: Facts) => void;
}

export interface BoundQuery extends Bound {
  readonly columns: Columns;
  /** Columns by position; undefined where a `*` hides the positions. */
  readonly outputs: readonly Output[] | undefined;
  /** Links that hold for every row of the result and may be used outside; only where columns reach through. */
  readonly holds: readonly Link[];
}

export interface Output {
  readonly name: string | undefined;
  readonly term: Term | undefined;
}

/** What a query is bound in. `facts`: what is known around it when it is bound. */
export interface Surroundings {
  readonly analysis: Analysis;
  readonly outer: Scope | undefined;
  readonly ctes: Ctes | undefined;
  readonly facts: Facts;
}

export function bindSelect(select: SelectStmt, around: Surroundings): BoundQuery {
  const withClause = bindWith(select.withClause, around);
  const inner = { ...around, ctes: withClause.ctes };
  const bound =
    select.op !== undefined && select.op !== 'SETOP_NONE'
      ? bindSetOperation(select, inner)
      : select.valuesLists !== undefined
        ? bindValues(select, inner)
        : bindPlain(select, inner);
  return {
    ...bound,
    restrict(facts) {
      withClause.restrict(facts);
      bound.restrict(facts);
    },
  };
}

function bindPlain(select: SelectStmt, around: Surroundings): BoundQuery {
  const scope = new Scope(around.outer);
  const items = (select.fromClause ?? []).map((node) => bindFrom(node, scope, around));
  scope.items = items.flatMap((item) => item.items);
  const own = holdsForAll(linksOf(select.whereClause, scope), items);
  const ownFacts = around.facts.with(own);
  // A query that may aggregate without GROUP BY has a row even where WHERE has none: of that, nothing of WHERE holds.
  const { functions } = around.analysis.catalogue;
  const resultFacts = mayBeOneAggregate(select, functions) ? around.facts : ownFacts;
  const reachesThrough = isTransparent(select, functions);
  const outward = (term: Term | undefined): Term | undefined => {
    if (term === undefined || term.kind === 'set' || reachesThrough) return term;
    const keys = resultFacts.keysOf(term.column);
    return keys === undefined ? undefined : { kind: 'set', keys };
  };
  const expressions = bindExpressions(
    [
      select.whereClause,
      select.targetList,
      select.groupClause,
      select.havingClause,
      select.windowClause,
      select.sortClause,
      select.distinctClause,
      select.limitOffset,
      select.limitCount,
    ],
    scope,
    { ...around, facts: ownFacts },
  );
  return {
    ...outputsOf(select.targetList ?? [], scope, items, outward),
    holds: reachesThrough ? own : [],
    restrict(facts) {
      const inside = facts.with(own);
      for (const item of items) item.restrict(inside);
      // Also where the query is one aggregate: an outer column in its target list is restricted where it comes from.
      expressions.restrict(inside);
    },
  };
}

/** Whether filtering the rows of the query is the same as filtering the rows that it reads. */
function isTransparent(select: SelectStmt, functions: FunctionCatalogue): boolean {
  return (
    select.limitCount === undefined &&
    select.limitOffset === undefined &&
    select.windowClause === undefined &&
    (select.distinctClause ?? []).every((node) => Object.keys(node).length === 0) &&
    !(select.groupClause ?? []).some((node) => 'GroupingSet' in node) &&
    !mayBeOneAggregate(select, functions) &&
    !contains([select.targetList ?? [], select.sortClause ?? []], (node) => 'over' in node)
  );
}

/** No GROUP BY, and something that may be an aggregate: any function that isn't surely of another kind. */
function mayBeOneAggregate(
  { groupClause, havingClause, targetList, sortClause }: SelectStmt,
  functions: FunctionCatalogue,
): boolean {
  if (groupClause !== undefined) return groupClause.some((node) => 'GroupingSet' in node);
  // In subqueries, too: an aggregate over outer columns only belongs to the outer query.
  return (
    havingClause !== undefined ||
    contains([targetList ?? [], sortClause ?? []], (node) => {
      if ('JsonObjectAgg' in node || 'JsonArrayAgg' in node || 'GroupingFunc' in node) return true;
      return 'funcname' in node && !('over' in node) && functions.ofCall(node as FuncCall).mayAggregate;
    })
  );
}

const isStar = (target: ResTarget): boolean => {
  const value = target.val;
  return (
    value !== undefined && 'ColumnRef' in value && (value.ColumnRef.fields ?? []).some((field) => 'A_Star' in field)
  );
};

/** The columns of a target list (or RETURNING): by position where no `*` hides it, and by name. */
export function outputsOf(
  targets: readonly Node[],
  scope: Scope,
  items: readonly FromItem[],
  outward: (term: Term | undefined) => Term | undefined,
): Pick<BoundQuery, 'columns' | 'outputs'> {
  const list = targets.flatMap((node) => ('ResTarget' in node ? [node.ResTarget] : []));
  const outputs = list
    .filter((target) => !isStar(target))
    .map(
      (target): Output => ({
        name: target.name ?? nameOfColumn(target.val),
        term: outward(termOf(target.val, scope)),
      }),
    );
  const named = new DerivedColumns(
    outputs.flatMap(({ name, term }) => (name === undefined ? [] : [{ name, term }])),
    outputs.every(({ name }) => name !== undefined),
  );
  const stars = list.filter(isStar);
  if (stars.length === 0) return { columns: named, outputs };
  const behindStars = stars.flatMap((star) => columnsOfStar(star, scope, items));
  const columns = remembered((name) => {
    const found = findAmong([named, ...behindStars], name);
    return typeof found === 'object' ? (outward(found) ?? 'unknown') : found;
  });
  return { columns, outputs: undefined };
}

function nameOfColumn(value: Node | undefined): string | undefined {
  return value !== undefined && 'ColumnRef' in value ? columnNames(value.ColumnRef)?.at(-1) : undefined;
}

function columnsOfStar(star: ResTarget, scope: Scope, items: readonly FromItem[]): readonly Columns[] {
  const fields = star.val !== undefined && 'ColumnRef' in star.val ? (star.val.ColumnRef.fields ?? []) : [];
  if (fields.length === 1) return items.flatMap((item) => item.items);
  const alias = fields.at(-2);
  return [scope.columnsOf(alias !== undefined && 'String' in alias ? (alias.String.sval ?? '') : '')];
}

function bindValues(select: SelectStmt, around: Surroundings): BoundQuery {
  const rows = (select.valuesLists ?? []).map((row) => ('List' in row ? (row.List.items ?? []) : []));
  const outputs = (rows[0] ?? []).map((_cell, position): Output => {
    const keys = constantKeys(rows.flatMap((row) => row[position] ?? []));
    return { name: `column${position + 1}`, term: keys === undefined ? undefined : { kind: 'set', keys } };
  });
  const scope = new Scope(around.outer);
  const expressions = bindExpressions([...rows.flat(), select.limitCount, select.limitOffset], scope, around);
  return {
    outputs,
    columns: new DerivedColumns(
      outputs.map(({ name = '', term }) => ({ name, term })),
      true,
    ),
    holds: [],
    restrict: expressions.restrict,
  };
}

function bindSetOperation(select: SelectStmt, around: Surroundings): BoundQuery {
  const left = bindSelect(select.larg ?? {}, around);
  const right = bindSelect(select.rarg ?? {}, around);
  const outputs = eitherOf(left.outputs, right.outputs, around.facts);
  const columns = new DerivedColumns(
    (outputs ?? []).flatMap(({ name, term }) => (name === undefined ? [] : [{ name, term }])),
    outputs?.every(({ name }) => name !== undefined) ?? false,
  );
  const scope = new Scope(around.outer);
  scope.items = [columns];
  const expressions = bindExpressions(
    [...(select.sortClause ?? []), select.limitCount, select.limitOffset],
    scope,
    around,
  );
  return {
    outputs,
    columns,
    holds: [],
    restrict(facts) {
      left.restrict(facts);
      right.restrict(facts);
      expressions.restrict(facts);
    },
  };
}

/** Columns of a set operation: each holds what either branch may give. */
function eitherOf(
  left: readonly Output[] | undefined,
  right: readonly Output[] | undefined,
  facts: Facts,
): readonly Output[] | undefined {
  if (left === undefined || right === undefined || left.length !== right.length) return undefined;
  return left.map(({ name, term }, position) => {
    const one = keysOfTerm(term, facts);
    const other = keysOfTerm(right[position]?.term, facts);
    const both = one === undefined || other === undefined ? undefined : unionOfKeys([one, other]);
    return { name, term: both === undefined ? undefined : { kind: 'set', keys: both } };
  });
}

export function keysOfTerm(term: Term | undefined, facts: Facts) {
  if (term === undefined) return undefined;
  return term.kind === 'set' ? term.keys : facts.keysOf(term.column);
}

/** Binds every subquery in these expressions. Names are resolved now, as the scope stands. */
export function bindExpressions(nodes: readonly unknown[], scope: Scope, around: Surroundings): Bound {
  const found: Bound[] = [];
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    if ('SubLink' in node) {
      const { testexpr, subselect } = (node as { SubLink: { testexpr?: Node; subselect?: Node } }).SubLink;
      visit(testexpr);
      if (subselect !== undefined && 'SelectStmt' in subselect)
        found.push(bindSelect(subselect.SelectStmt, { ...around, outer: scope }));
      return;
    }
    forEachChild(node, visit);
  };
  for (const node of nodes) visit(node);
  return {
    restrict(facts) {
      for (const bound of found) bound.restrict(facts);
    },
  };
}
