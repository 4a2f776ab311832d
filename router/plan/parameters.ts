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
 * - What a name meant that Postgres doesn't look up again when something else gets it: of a type, of a collation, of an attribute of a
 *   composite. Only types of Postgres' own may be named.
 */
import type {
  A_Const,
  A_Expr,
  A_Indirection,
  ColumnRef,
  Node,
  RangeVar,
  SQLValueFunction,
  TypeCast,
  TypeName,
} from '@pgsql/types';
import type { Constants, Guard, Parameters, StatementPlan } from './types.ts';
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
const iso = String.raw`\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d(?:\.\d+)?)?)?`;
/** Which of these strings mean the same at all times, whatever DateStyle, IntervalStyle and TimeZone of the server become ("Date/Time Input"). */
const steady: Readonly<Record<string, RegExp>> = {
  date: new RegExp(`^${iso}$`),
  timestamp: new RegExp(`^${iso}$`),
  timestamptz: new RegExp(`^${iso}(?:Z|[+-]\\d\\d(?::?\\d\\d)?)$`),
  interval: /^\d+ [a-z]+$/,
};
/** What more would be is no quick lookup. */
const maxParameters = 32;

/** They tell how a statement is run: when it began, which is with its last message; what is prepared or opened for it. */
const telling: ReadonlySet<string> = new Set(['statement_timestamp', 'pg_cursor', 'pg_prepared_statement']);
const tellingViews: ReadonlySet<string> = new Set(['pg_cursors', 'pg_prepared_statements']);

/** Undefined where the statement can't be said with parameters. `statement`: its tree with all values; `calls`: with those in views. */
export function parametersOf(
  statement: Node,
  { calls }: Pick<StatementPlan, 'calls'>,
  constants: Constants,
): Parameters | undefined {
  if (calls.some((name) => telling.has(name)) || contains(statement, isOwn)) return undefined;
  const byStart = new Map<number, number>();
  for (let index = 0; index < constants.count; index++) byStart.set(constants.start(index), index);
  const found = new Finder(byStart);
  found.visit(statement, false, false);
  const { parameters, guards } = found;
  if (parameters.size + guards.length > maxParameters) return undefined;
  if (!mayRemain(statement, found.taken)) return undefined;
  return { constants: [...parameters].toSorted((a, b) => a - b), guards: guards.toSorted((a, b) => a.after - b.after) };
}

/** It has parameters already, or shows what the router's are. */
const isOwn = (node: object): boolean =>
  'ParamRef' in node || ('RangeVar' in node && tellingViews.has((node.RangeVar as RangeVar).relname ?? ''));

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

const isConstantType = (cast: TypeCast): boolean => constantTypes.has(typeOf(cast));

/** Its name where it may be one of Postgres' own, and no array, else ''. */
const typeOf = ({ typeName }: TypeCast): string =>
  typeName === undefined || typeName.arrayBounds !== undefined || typeName.setof === true ? '' : lastName(typeName);

function lastName(typeName: TypeName): string {
  const names = (typeName.names ?? []).map((name) => ('String' in name ? (name.String.sval ?? '') : ''));
  return names.length === 1 || (names.length === 2 && names[0] === 'pg_catalog') ? (names.at(-1) ?? '') : '';
}

/** Types of which a modifier may be more than they have: a warning is said when the statement is made, not when it runs. */
const rounded: ReadonlySet<string> = new Set(['timestamp', 'timestamptz', 'interval']);
const mostDigits = 6;

/** What Postgres looks up by name once, and doesn't look up again; or has to say something about, once. */
function isLookedUpOnce(node: object): boolean {
  if ('CollateClause' in node) return true;
  if ('A_Indirection' in node)
    return ((node.A_Indirection as A_Indirection).indirection ?? []).some((part) => !('A_Indices' in part));
  if ('SQLValueFunction' in node) return ((node.SQLValueFunction as SQLValueFunction).typmod ?? -1) > mostDigits;
  if (!('typeName' in node)) return false;
  const typeName = node.typeName as TypeName;
  const name = lastName(typeName);
  return !constantTypes.has(name) || (rounded.has(name) && typeName.typmods !== undefined);
}

/** Whether all strings but those `taken` mean the same whenever the statement is made, and all names in it. */
function mayRemain(node: object, taken: ReadonlySet<A_Const>): boolean {
  let isSafe = true;
  const visit = (child: object): void => {
    if (!isSafe) return;
    if (isLookedUpOnce(child)) {
      isSafe = false;
      return;
    }
    if ('A_Const' in child) {
      const constant = child.A_Const as A_Const;
      isSafe = constant.sval === undefined || taken.has(constant);
      return;
    }
    if ('TypeCast' in child) {
      const cast = child.TypeCast as TypeCast;
      const value = cast.arg !== undefined && 'A_Const' in cast.arg ? cast.arg.A_Const.sval?.sval : undefined;
      if (
        value !== undefined &&
        isConstantType(cast) &&
        steady[typeOf(cast)]?.test(value) !== false &&
        !isLookedUpOnce(cast)
      )
        return;
    }
    if ('A_Expr' in child) {
      const { kind, lexpr, rexpr } = child.A_Expr as A_Expr;
      const isPattern = kind === 'AEXPR_LIKE' || kind === 'AEXPR_ILIKE';
      // It is text.
      if (isPattern && lexpr !== undefined && rexpr !== undefined && 'A_Const' in rexpr) return visit(lexpr);
    }
    forEachChild(child, visit);
  };
  visit(node);
  return isSafe;
}
