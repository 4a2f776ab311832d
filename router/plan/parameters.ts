/**
 * Which constants of a quick read can be parameters instead, so that members parse and plan all texts of its shape once: only those
 * that a column is compared with in WHERE or ON. Postgres finds operators and types for a parameter there as it does for the constant
 * (`transformExpr`, `make_const`: an integer has 32 bits where it fits, a string no type of its own), and nothing else looks at them: not
 * the names of columns, not GROUP BY and DISTINCT, which compare expressions. Negative numbers are an operator's result for a parameter.
 * Vitess does the same with all literals (go/vt/sqlparser, "normalizer"); how plans are chosen then: PREPARE, "Notes".
 */
import type { A_Const, A_Expr, Node } from '@pgsql/types';
import type { Constants } from './types.ts';
import { contains, forEachChild } from './walk.ts';

const comparisons: ReadonlySet<string> = new Set(['=', '<>', '<', '>', '<=', '>=']);
/** Where equal expressions are one, and with them the subqueries in them: GROUP BY ROLLUP ((SELECT ...)). */
const matched: ReadonlySet<string> = new Set(['targetList', 'groupClause', 'havingClause', 'distinctClause', 'sortClause', 'windowClause']);
/** What more would be is no quick lookup. */
const maxParameters = 32;

/**
 * Constants by index, in the order of the text; undefined where the statement can't be said with parameters. `statement`: its tree with
 * all values.
 */
export function parametersOf(statement: Node, constants: Constants): readonly number[] | undefined {
  if (contains(statement, (node) => 'ParamRef' in node)) return undefined;
  const byStart = new Map<number, number>();
  for (let index = 0; index < constants.count; index++) byStart.set(constants.start(index), index);
  const found = new Set<number>();
  const visit = (node: object, isCondition: boolean): void => {
    if (isCondition && 'A_Expr' in node)
      for (const constant of comparedIn(node.A_Expr as A_Expr)) {
        const index = byStart.get(constant.location ?? 0);
        if (index !== undefined) found.add(index);
      }
    if (Array.isArray(node)) return forEachChild(node, (child) => visit(child, isCondition));
    for (const [key, child] of Object.entries(node) as [string, unknown][]) {
      if (typeof child !== 'object' || child === null || matched.has(key)) continue;
      visit(child, key === 'whereClause' || key === 'quals' || (isCondition && key !== 'subselect'));
    }
  };
  visit(statement, false);
  return found.size > maxParameters ? undefined : [...found].toSorted((a, b) => a - b);
}

/** The constants that a column is compared with. */
function comparedIn({ kind, name = [], lexpr, rexpr }: A_Expr): A_Const[] {
  if (kind === 'AEXPR_BETWEEN') {
    if (!isColumn(lexpr) || rexpr === undefined || !('List' in rexpr)) return [];
    return (rexpr.List.items ?? []).flatMap((item) => constantOf(item) ?? []);
  }
  const [operator] = name;
  if (kind !== 'AEXPR_OP' || name.length !== 1 || operator === undefined || !('String' in operator)) return [];
  if (!comparisons.has(operator.String.sval ?? '')) return [];
  if (isColumn(lexpr)) return constantOf(rexpr) ?? [];
  return isColumn(rexpr) ? (constantOf(lexpr) ?? []) : [];
}

const isColumn = (node: Node | undefined): boolean => node !== undefined && 'ColumnRef' in node;

/**
 * With or without the name of a type: 'x'::uuid. A modifier or an array would have to be said of the parameter as well, and uuid 'x' (the
 * cast is nowhere then) can't be said of one.
 */
function constantOf(node: Node | undefined): A_Const[] | undefined {
  if (node === undefined) return undefined;
  if ('A_Const' in node) return [node.A_Const];
  if (!('TypeCast' in node)) return undefined;
  const { arg, typeName, location } = node.TypeCast;
  if (location === -1 || arg === undefined || !('A_Const' in arg) || arg.A_Const.sval === undefined) return undefined;
  if (typeName?.typmods !== undefined || typeName?.arrayBounds !== undefined || typeName?.setof === true) return undefined;
  return [arg.A_Const];
}
