/**
 * Common table expressions: evaluated on their own, so that conditions of the query that uses them don't reach into them;
 * what is known of their columns is known outside, too.
 */
import type { CommonTableExpr, RangeVar, SelectStmt, WithClause } from '@pgsql/types';
import { bindDataModifying } from './modify.ts';
import { type Bound, type BoundQuery, bindSelect, keysOfTerm, type Output, type Surroundings } from './query.ts';
import { DerivedColumns, opaque, remembered } from './scope.ts';
import { isSubset, type Term } from './terms.ts';

/** Recursive queries within recursive queries would multiply. */
const maxSecondLooks = 20;

type Exposed = Pick<BoundQuery, 'columns' | 'outputs'>;

/** The names in force, innermost first. */
export interface Ctes {
  readonly name: string;
  readonly query: Exposed;
  readonly outer: Ctes | undefined;
}

export function findCte(ctes: Ctes | undefined, mention: RangeVar): Exposed | undefined {
  if (mention.schemaname !== undefined) return undefined;
  for (let cte = ctes; cte !== undefined; cte = cte.outer) {
    if (cte.name === mention.relname) return cte.query;
  }
  return undefined;
}

export function bindWith(
  clause: WithClause | undefined,
  around: Surroundings,
): Bound & { readonly ctes: Ctes | undefined } {
  let { ctes } = around;
  const bound: Bound[] = [];
  for (const node of clause?.ctes ?? []) {
    if (!('CommonTableExpr' in node)) continue;
    const expression = node.CommonTableExpr;
    const query = bindCte(expression, clause?.recursive === true, { ...around, ctes });
    bound.push(query);
    ctes = { name: expression.ctename ?? '', query: exposed(query, expression), outer: ctes };
  }
  return {
    ctes,
    restrict(facts) {
      for (const query of bound) query.restrict(facts);
    },
  };
}

function bindCte(expression: CommonTableExpr, mayRecurse: boolean, around: Surroundings): BoundQuery {
  const query = expression.ctequery;
  if (query === undefined) throw new Error('a common table expression has a query');
  if (!('SelectStmt' in query)) return bindDataModifying(query, around);
  const select = query.SelectStmt;
  if (mayRecurse && select.op === 'SETOP_UNION' && select.larg && select.rarg && select.withClause === undefined)
    return bindRecursive(expression, select, around);
  return closed(bindSelect(select, around), around);
}

/** Columns as sets only: a column of the inside means nothing outside of where it is evaluated. */
function closed(bound: BoundQuery, { facts }: Surroundings): BoundQuery {
  const own = facts.with(bound.holds);
  const close = (output: Output): Output => {
    const keys = keysOfTerm(output.term, own);
    return { name: output.name, term: keys === undefined ? undefined : { kind: 'set', keys } };
  };
  return {
    outputs: bound.outputs?.map(close),
    columns: remembered((name) => {
      const found = bound.columns.find(name);
      return typeof found === 'object' ? (close({ name, term: found }).term ?? 'unknown') : found;
    }),
    holds: [],
    restrict: bound.restrict,
  };
}

function exposed(query: Exposed, { aliascolnames = [], search_clause, cycle_clause }: CommonTableExpr): Exposed {
  const names = aliascolnames.map((name) => ('String' in name ? (name.String.sval ?? '') : ''));
  const addsColumns = search_clause !== undefined || cycle_clause !== undefined;
  if (names.length === 0 && !addsColumns) return query;
  if (query.outputs === undefined || addsColumns) return { columns: opaque, outputs: undefined };
  const outputs = query.outputs.map(({ name, term }, position) => ({ name: names[position] ?? name, term }));
  return { outputs, columns: columnsOf(outputs) };
}

const columnsOf = (outputs: readonly Output[]): DerivedColumns =>
  new DerivedColumns(
    outputs.flatMap(({ name, term }) => (name === undefined ? [] : [{ name, term }])),
    outputs.every(({ name }) => name !== undefined),
  );

/**
 * A recursive query, by induction: what its first part says of a column holds for all of it if the second part, believing
 * that of its own input, says the same. Columns of which it doesn't are believed nothing of.
 */
function bindRecursive(expression: CommonTableExpr, select: SelectStmt, around: Surroundings): BoundQuery {
  const { larg = {}, rarg = {}, sortClause, limitCount, limitOffset } = select;
  const first = closed(bindSelect(larg, around), around);
  let believed = first.outputs;
  let second = bindSecond(expression, rarg, believed, around);
  for (let attempt = 0; !isInduction(believed, second.outputs, around); attempt += 1) {
    around.analysis.secondLooks += 1;
    if (around.analysis.secondLooks > maxSecondLooks) {
      around.analysis.doubts.push('its recursive queries are too many to be followed');
      break;
    }
    // Giving up a column may be what another rests on; after a few rounds nothing is believed at all.
    const isLast = attempt === 2;
    const before = believed;
    const { outputs } = second;
    believed = before?.map(({ name, term }, position) => {
      const isKept = !isLast && isWithin(term, outputs?.[position]?.term, around);
      return { name, term: isKept ? term : undefined };
    });
    second = bindSecond(expression, rarg, believed, around);
  }
  if (sortClause || limitCount || limitOffset) around.analysis.doubts.push('a recursive query with ORDER BY or LIMIT');
  return {
    outputs: believed,
    columns: believed === undefined ? opaque : columnsOf(believed),
    holds: [],
    restrict(facts) {
      first.restrict(facts);
      second.restrict(facts);
    },
  };
}

function bindSecond(
  expression: CommonTableExpr,
  rarg: SelectStmt,
  believed: readonly Output[] | undefined,
  around: Surroundings,
): BoundQuery {
  const itself: Exposed = { outputs: believed, columns: believed === undefined ? opaque : columnsOf(believed) };
  const ctes: Ctes = { name: expression.ctename ?? '', query: exposed(itself, expression), outer: around.ctes };
  return closed(bindSelect(rarg, { ...around, ctes }), around);
}

/** Whether what is known of a column says no more than what the column may hold again. */
function isWithin(known: Term | undefined, again: Term | undefined, { facts }: Surroundings): boolean {
  if (known === undefined || known.kind !== 'set') return true;
  const keys = keysOfTerm(again, facts);
  return keys !== undefined && isSubset(keys, known.keys);
}

const isInduction = (
  believed: readonly Output[] | undefined,
  again: readonly Output[] | undefined,
  around: Surroundings,
): boolean => (believed ?? []).every(({ term }, position) => isWithin(term, again?.[position]?.term, around));
