/**
 * FROM: tables, derived tables, functions and joins. What a join's condition restricts depends on its kind (`query.ts`):
 * an inner join's both sides, an outer join's the side that is filled with NULLs, a full join's neither.
 * Invariant: the facts handed to an item's `restrict` contain its `holds`.
 */
import type { Alias, JoinExpr, Node, RangeSubselect, RangeVar } from '@pgsql/types';
import { linkBetween, linksOf } from './conditions.ts';
import { type Bound, type BoundQuery, bindExpressions, bindSelect, type Surroundings } from './query.ts';
import { type Columns, DerivedColumns, type Found, findAmong, ItemColumns, opaque, Scope } from './scope.ts';
import { type Conditional, inForce, type KeyColumn, type Link } from './terms.ts';
import { findCte } from './with.ts';

export interface FromItem extends Bound {
  /** What unqualified names are looked up in. */
  readonly items: readonly ItemColumns[];
  /** What aliases mean that it makes visible; undefined where some are unknown. */
  readonly names: ReadonlyMap<string, ItemColumns> | undefined;
  /** Links that every row of the item satisfies. */
  readonly holds: readonly Link[];
  /** Links that those of its rows satisfy in which an outer join found something. */
  readonly conditionals: readonly Conditional[];
}

/** What every row satisfies that comes from all of these items joined, by these links. */
export const holdsForAll = (links: readonly Link[], items: readonly FromItem[]): readonly Link[] =>
  inForce(
    [...links, ...items.flatMap(({ holds }) => holds)],
    items.flatMap(({ conditionals }) => conditionals),
  );

/** An item of one table, function or query. */
const single = { holds: [], conditionals: [], restrict: () => undefined } as const;

/** Binds an item and makes its names known in the scope, so that lateral items after it see them. */
export function bindFrom(node: Node, scope: Scope, around: Surroundings): FromItem {
  if ('RangeVar' in node) return bindTable(node.RangeVar, scope, around);
  if ('RangeSubselect' in node) return bindDerived(node.RangeSubselect, scope, around);
  if ('JoinExpr' in node) return bindJoin(node.JoinExpr, scope, around);
  const expressions = bindExpressions([node], scope, around);
  const alias = aliasOf(node);
  if (alias === undefined) {
    scope.hideOuterNames();
    const columns = new ItemColumns(opaque);
    scope.items.push(columns);
    return { ...single, items: [columns], names: undefined, restrict: expressions.restrict };
  }
  return { ...single, ...named(alias, opaque, scope), restrict: expressions.restrict };
}

function aliasOf(node: Node): string | undefined {
  const [inner] = Object.values(node) as { alias?: Alias }[];
  return inner?.alias?.aliasname;
}

function named(alias: string, found: Columns, scope: Scope): Pick<FromItem, 'items' | 'names'> {
  const columns = new ItemColumns(found);
  scope.name(alias, columns);
  scope.items.push(columns);
  return { items: [columns], names: new Map([[alias, columns]]) };
}

/** After the join's own condition was read, which sees the rows that match. */
function fillWithNulls(item: FromItem): void {
  for (const columns of [...item.items, ...(item.names?.values() ?? [])]) columns.fillWithNulls();
}

/** Columns under other names: `AS x(a, b)`. */
function renamed(query: Pick<BoundQuery, 'columns' | 'outputs'>, alias: Alias | undefined): Columns {
  const names = (alias?.colnames ?? []).map((name) => ('String' in name ? (name.String.sval ?? '') : ''));
  if (names.length === 0) return query.columns;
  if (query.outputs === undefined) return opaque;
  const columns = query.outputs.map(({ name, term }, position) => ({ name: names[position] ?? name ?? '', term }));
  return new DerivedColumns(
    columns,
    columns.every(({ name }) => name !== ''),
  );
}

export function tableColumns(column: KeyColumn, tenantColumn: string): Columns {
  return { find: (name): Found => (name === tenantColumn ? { kind: 'column', column } : 'unknown') };
}

function bindTable(mention: RangeVar, scope: Scope, around: Surroundings): FromItem {
  const { analysis } = around;
  const alias = mention.alias?.aliasname ?? mention.relname ?? '';
  analysis.visited.add(mention);
  const cte = findCte(around.ctes, mention);
  if (cte !== undefined) {
    analysis.ctes.add(mention);
    return { ...single, ...named(alias, renamed(cte, mention.alias), scope) };
  }
  const relation = analysis.relation(mention);
  if ('name' in relation && analysis.isView(relation)) return bindView(relation, mention, alias, scope, around);
  if (relation.kind !== 'tenant') return { ...single, ...named(alias, opaque, scope) };
  const column = analysis.keyColumn(relation.name);
  const hasOtherNames = (mention.alias?.colnames ?? []).length > 0;
  const columns = hasOtherNames ? opaque : tableColumns(column, analysis.tenantColumn);
  return {
    ...single,
    ...named(alias, columns, scope),
    restrict: (facts) => analysis.restricted(column, facts),
  };
}

/** As if its query stood here, but that it sees nothing of what is around it. */
function bindView(
  view: { readonly name: string },
  { alias }: RangeVar,
  name: string,
  scope: Scope,
  around: Surroundings,
): FromItem {
  const query = around.analysis.viewQuery(view);
  if (query === undefined) return { ...single, ...named(name, opaque, scope) };
  const bound = bindSelect(query, { ...around, outer: undefined, ctes: undefined });
  return { ...single, ...named(name, renamed(bound, alias), scope), holds: bound.holds, restrict: bound.restrict };
}

function bindDerived(derived: RangeSubselect, scope: Scope, around: Surroundings): FromItem {
  const { subquery, alias } = derived;
  if (subquery === undefined || !('SelectStmt' in subquery)) throw new Error('a derived table is a SELECT');
  const outer = derived.lateral === true ? scope : scope.outer;
  const bound = bindSelect(subquery.SelectStmt, { ...around, outer });
  const columns = new ItemColumns(renamed(bound, alias));
  if (alias?.aliasname !== undefined)
    return { ...single, ...named(alias.aliasname, columns, scope), holds: bound.holds, restrict: bound.restrict };
  scope.items.push(columns);
  return { ...single, items: [columns], names: new Map(), holds: bound.holds, restrict: bound.restrict };
}

function bindJoin(join: JoinExpr, scope: Scope, around: Surroundings): FromItem {
  if (join.larg === undefined || join.rarg === undefined) throw new Error('a join has two sides');
  // An alias hides the names inside; those then see nothing outside either, which can only lose restrictions.
  const inside = join.alias === undefined ? scope : new Scope(undefined).hideOuterNames();
  const { keyColumns } = around.analysis;
  const firstOfLeft = keyColumns.length;
  const left = bindFrom(join.larg, inside, around);
  const firstOfRight = keyColumns.length;
  const right = bindFrom(join.rarg, inside, around);
  const leftColumns = new Set(keyColumns.slice(firstOfLeft, firstOfRight));
  const rightColumns = new Set(keyColumns.slice(firstOfRight));
  const kind = join.jointype ?? 'JOIN_INNER';

  const onScope = new Scope(around.outer);
  onScope.items = [...left.items, ...right.items];
  for (const side of [left, right]) {
    if (side.names === undefined) onScope.hideOuterNames();
    for (const [alias, columns] of side.names ?? []) onScope.name(alias, columns);
  }
  const merged = mergedColumns(join, left, right, around.analysis.tenantColumn);
  const on = [...linksOf(join.quals, onScope), ...merged.links];
  const matched = holdsForAll(on, [left, right]);
  const expressions = bindExpressions([join.quals], onScope, { ...around, facts: around.facts.with(matched) });

  if (kind === 'JOIN_LEFT' || kind === 'JOIN_FULL') fillWithNulls(right);
  if (kind === 'JOIN_RIGHT' || kind === 'JOIN_FULL') fillWithNulls(left);

  const isOuter = kind !== 'JOIN_INNER';
  const keepsLeft = kind === 'JOIN_LEFT' || kind === 'JOIN_FULL';
  const keepsRight = kind === 'JOIN_RIGHT' || kind === 'JOIN_FULL';
  const bound: FromItem = {
    items: merged.items,
    names: left.names === undefined || right.names === undefined ? undefined : new Map([...left.names, ...right.names]),
    holds: !isOuter ? matched : kind === 'JOIN_LEFT' ? left.holds : kind === 'JOIN_RIGHT' ? right.holds : [],
    conditionals: [
      ...left.conditionals,
      ...right.conditionals,
      ...(keepsLeft ? [{ columns: rightColumns, links: keepsRight ? right.holds : matched }] : []),
      ...(keepsRight ? [{ columns: leftColumns, links: keepsLeft ? left.holds : matched }] : []),
    ],
    restrict(facts) {
      left.restrict(!isOuter ? facts : keepsLeft ? facts.with(left.holds) : facts.with(matched));
      right.restrict(!isOuter ? facts : keepsRight ? facts.with(right.holds) : facts.with(matched));
      expressions.restrict(isOuter ? facts.with(matched) : facts);
    },
  };
  if (join.join_using_alias?.aliasname !== undefined) scope.name(join.join_using_alias.aliasname, opaque);
  if (join.alias?.aliasname === undefined) return bound;
  const hasOtherNames = (join.alias.colnames ?? []).length > 0;
  const columns: Columns = hasOtherNames ? opaque : { find: (name) => findAmong(merged.items, name) };
  return { ...bound, ...named(join.alias.aliasname, columns, scope) };
}

/** USING and NATURAL: columns of both sides that are one afterwards. Of NATURAL only the tenant key is looked at. */
function mergedColumns(
  join: JoinExpr,
  left: FromItem,
  right: FromItem,
  tenantColumn: string,
): { links: readonly Link[]; items: readonly ItemColumns[] } {
  const both = [...left.items, ...right.items];
  const using = (join.usingClause ?? []).map((name) => ('String' in name ? (name.String.sval ?? '') : ''));
  const names = join.isNatural === true ? [tenantColumn] : using;
  if (names.length === 0) return { links: [], items: both };
  const links: Link[] = [];
  const columns = new Map<string, Found>();
  for (const name of names) {
    const one = findAmong(left.items, name);
    const other = findAmong(right.items, name);
    if (typeof one === 'object' && typeof other === 'object') links.push(...linkBetween(one, other));
    else if (join.isNatural === true && (one === 'absent' || other === 'absent')) continue;
    const kept = join.jointype === 'JOIN_RIGHT' ? other : join.jointype === 'JOIN_FULL' ? 'unknown' : one;
    columns.set(name, typeof kept === 'object' ? kept : 'unknown');
  }
  return { links, items: [new ItemColumns({ find: (name) => columns.get(name) ?? findAmong(both, name) })] };
}
