/**
 * Which constants of a quick read can be parameters instead, so that members parse and plan all texts of its shape once: only those
 * that a column is compared with in WHERE or ON. Postgres finds operators and types for a parameter there as it does for the constant
 * (`transformExpr`, `make_const`: an integer has 32 bits where it fits, a string no type of its own), and nothing else looks at them: not
 * the names of columns, not GROUP BY and DISTINCT, which compare expressions. Negative numbers are an operator's result for a parameter.
 * Vitess does the same with all literals (go/vt/sqlparser, "normalizer"); how plans are chosen then: PREPARE, "Notes".
 *
 * A prepared statement must mean tomorrow what its text would mean then. Two things in it stay what they were when it was made:
 * - The type of a parameter that was a plain string, though its column may get another (ALTER TABLE ... TYPE): such a one is guarded
 *   (`Guard`), and stands only where a guard can stand beside it.
 * - The value of a string that remains ('now', a label of an enum, the name of a function): only strings of types that read the same
 *   at all times may remain.
 */
import type { A_Const, A_Expr, ColumnRef, Node, TypeCast } from '@pgsql/types';
import type { Constants, Guard, Parameters } from './types.ts';
import { contains, forEachChild } from './walk.ts';

const comparisons: ReadonlySet<string> = new Set(['=', '<>', '<', '>', '<=', '>=']);
/** Where equal expressions are one, and with them the subqueries in them: GROUP BY ROLLUP ((SELECT ...)). */
const matched: ReadonlySet<string> = new Set([
  'targetList',
  'groupClause',
  'havingClause',
  'distinctClause',
  'sortClause',
  'windowClause',
]);
/** Postgres' own, by the names that the grammar gives them; none can be changed or made anew. */
const constantTypes: ReadonlySet<string> = new Set(
  (
    'bool boolean int2 int4 int8 smallint int integer bigint numeric decimal float4 float8 real ' +
    'text varchar bpchar bytea uuid json jsonb date timestamp timestamptz interval'
  ).split(' '),
);
/** A date is read when the statement that it stands in is made ("Date/Time Input", special values). */
const readOnce = /(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])/i;
/** What more would be is no quick lookup. */
const maxParameters = 32;

/** Undefined where the statement can't be said with parameters. `statement`: its tree with all values. */
export function parametersOf(statement: Node, constants: Constants): Parameters | undefined {
  if (contains(statement, isOfTheMoment)) return undefined;
  const byStart = new Map<number, number>();
  for (let index = 0; index < constants.count; index++) byStart.set(constants.start(index), index);
  const found = new Finder(byStart);
  found.visit(statement, false, false);
  const { parameters, guards } = found;
  if (parameters.size + guards.length > maxParameters) return undefined;
  if (!mayRemain(statement, found.taken)) return undefined;
  return { constants: [...parameters].toSorted((a, b) => a - b), guards: guards.toSorted((a, b) => a.after - b.after) };
}

/** It has parameters of its own; or it tells when the statement began, which is with its last message. */
const isOfTheMoment = (node: object): boolean =>
  'ParamRef' in node ||
  ('FuncCall' in node &&
    ((node.FuncCall as { funcname?: Node[] }).funcname ?? []).some(
      (name) => 'String' in name && name.String.sval === 'statement_timestamp',
    ));

class Finder {
  readonly parameters = new Set<number>();
  readonly guards: Guard[] = [];
  readonly taken = new Set<A_Const>();
  readonly #byStart: ReadonlyMap<number, number>;

  constructor(byStart: ReadonlyMap<number, number>) {
    this.#byStart = byStart;
  }

  /** `isCondition`: it is a part of one; `isWhole`: by AND, OR and NOT alone. */
  visit(node: object, isCondition: boolean, isWhole: boolean): void {
    if (Array.isArray(node)) return forEachChild(node, (child) => this.visit(child, isCondition, isWhole));
    if (isCondition && 'A_Expr' in node) this.#take(node.A_Expr as A_Expr, isWhole);
    for (const [key, child] of Object.entries(node) as [string, unknown][]) {
      if (typeof child !== 'object' || child === null || matched.has(key)) continue;
      const isTop = key === 'whereClause' || key === 'quals';
      this.visit(
        child,
        isTop || (isCondition && key !== 'subselect'),
        isTop || (isWhole && (key === 'BoolExpr' || key === 'args')),
      );
    }
  }

  #take(expression: A_Expr, isWhole: boolean): void {
    const compared = comparedIn(expression);
    if (compared === undefined) return;
    const { column, values } = compared;
    const indexes = values.map(({ node: { location = 0 } }) => this.#byStart.get(location));
    const last = indexes.at(-1);
    const isGuarded = values.some(({ node, isCast }) => node.sval !== undefined && !isCast);
    if (isGuarded) {
      // What is said behind the last constant belongs to the whole comparison only there.
      if (!isWhole || last === undefined || expression.lexpr !== column || values.at(-1)?.isCast === true) return;
      const name = nameOf(column);
      if (name === undefined || indexes.includes(undefined)) return;
      this.guards.push({ after: last, column: name });
    }
    for (const [position, { node }] of values.entries()) {
      const index = indexes[position];
      if (index === undefined) continue;
      this.parameters.add(index);
      this.taken.add(node);
    }
  }
}

interface Value {
  readonly node: A_Const;
  readonly isCast: boolean;
}

type Column = Extract<Node, { ColumnRef: ColumnRef }>;

/** The constants that a column is compared with. */
function comparedIn({ kind, name = [], lexpr, rexpr }: A_Expr): { column: Column; values: Value[] } | undefined {
  if (kind === 'AEXPR_BETWEEN') {
    if (!isColumn(lexpr) || rexpr === undefined || !('List' in rexpr)) return undefined;
    const values = (rexpr.List.items ?? []).flatMap((item) => valueOf(item) ?? []);
    return values.length === 2 ? { column: lexpr, values } : undefined;
  }
  const [operator] = name;
  if (kind !== 'AEXPR_OP' || name.length !== 1 || operator === undefined || !('String' in operator)) return undefined;
  if (!comparisons.has(operator.String.sval ?? '')) return undefined;
  const [column, other] = isColumn(lexpr) ? [lexpr, rexpr] : [rexpr, lexpr];
  const value = valueOf(other);
  return isColumn(column) && value !== undefined ? { column, values: [value] } : undefined;
}

const isColumn = (node: Node | undefined): node is Column => node !== undefined && 'ColumnRef' in node;

function nameOf({ ColumnRef: { fields = [] } }: Column): string | undefined {
  const names = fields.map((field) => ('String' in field ? field.String.sval : undefined));
  if (names.includes(undefined)) return undefined;
  return names.map((name) => `"${(name as string).replaceAll('"', '""')}"`).join('.');
}

/**
 * With or without the name of a type: 'x'::uuid. A modifier or an array would have to be said of the parameter as well, and uuid 'x' (the
 * cast is nowhere then) can't be said of one.
 */
function valueOf(node: Node | undefined): Value | undefined {
  if (node === undefined) return undefined;
  if ('A_Const' in node) return { node: node.A_Const, isCast: false };
  if (!('TypeCast' in node)) return undefined;
  const { arg, location } = node.TypeCast;
  if (location === -1 || arg === undefined || !('A_Const' in arg) || arg.A_Const.sval === undefined) return undefined;
  if (!isConstantType(node.TypeCast) || node.TypeCast.typeName?.typmods !== undefined) return undefined;
  return { node: arg.A_Const, isCast: true };
}

function isConstantType({ typeName }: TypeCast): boolean {
  if (typeName === undefined || typeName.arrayBounds !== undefined || typeName.setof === true) return false;
  const names = (typeName.names ?? []).map((name) => ('String' in name ? (name.String.sval ?? '') : ''));
  if (names.length === 2 && names[0] !== 'pg_catalog') return false;
  return names.length <= 2 && constantTypes.has(names.at(-1) ?? '');
}

/** Whether all strings but those `taken` mean the same whenever the statement is made. */
function mayRemain(node: object, taken: ReadonlySet<A_Const>): boolean {
  let isSafe = true;
  const isSteady = (value: Node | undefined): boolean =>
    value !== undefined && 'A_Const' in value && !readOnce.test(value.A_Const.sval?.sval ?? '');
  const visit = (child: object): void => {
    if (!isSafe) return;
    if ('A_Const' in child) {
      const constant = child.A_Const as A_Const;
      isSafe = constant.sval === undefined || taken.has(constant);
      return;
    }
    if ('TypeCast' in child) {
      const cast = child.TypeCast as TypeCast;
      if (isConstantType(cast) && isSteady(cast.arg)) return;
    }
    if ('A_Expr' in child) {
      const { kind, lexpr, rexpr } = child.A_Expr as A_Expr;
      // A pattern is text.
      if ((kind === 'AEXPR_LIKE' || kind === 'AEXPR_ILIKE') && lexpr !== undefined && isSteady(rexpr))
        return visit(lexpr);
    }
    forEachChild(child, visit);
  };
  visit(node);
  return isSafe;
}
