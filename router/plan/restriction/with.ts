/**
 * Common table expressions: evaluated on their own, so that conditions of the query that uses them don't reach into them;
 * what is known of their columns is known outside, too.
 */
import type { CommonTableExpr, Node, RangeVar, WithClause } from '@pgsql/types';
import { bindDataModifying } from './modify.ts';
import {
  type Bound,
  type BoundQuery,
  bindSelect,
  eitherOf,
  keysOfTerm,
  type Output,
  type Surroundings,
} from './query.ts';
import { DerivedColumns, opaque } from './scope.ts';
import { isSubset } from './terms.ts';

type Exposed = Pick<BoundQuery, 'columns' | 'outputs'>;

/** The names in force, innermost first. */
export interface Ctes {
  readonly name: string;
  readonly query: Exposed;
  readonly outer: Ctes | undefined;
  /** Called when a reference is found. */
  readonly used?: (() => void) | undefined;
}

export function findCte(ctes: Ctes | undefined, mention: RangeVar): Exposed | undefined {
  if (mention.schemaname !== undefined) return undefined;
  for (let cte = ctes; cte !== undefined; cte = cte.outer) {
    if (cte.name !== mention.relname) continue;
    cte.used?.();
    return cte.query;
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
    return bindRecursive(expression, query, around);
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
    columns: {
      find(name) {
        const found = bound.columns.find(name);
        return typeof found === 'object' ? (close({ name, term: found }).term ?? 'unknown') : found;
      },
    },
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
 * that of its own input, says the same. Otherwise nothing is concluded about the statement.
 */
function bindRecursive(expression: CommonTableExpr, query: Node, around: Surroundings): BoundQuery {
  if (!('SelectStmt' in query) || !query.SelectStmt.larg || !query.SelectStmt.rarg) throw new Error('not a UNION');
  const { larg, rarg, sortClause, limitCount, limitOffset } = query.SelectStmt;
  const first = closed(bindSelect(larg, around), around);
  const assumed = first.outputs?.map(({ name, term }) => ({ name, term }));
  let isRecursive = false;
  const self: Ctes = {
    name: expression.ctename ?? '',
    query: exposed({ outputs: assumed, columns: assumed === undefined ? opaque : columnsOf(assumed) }, expression),
    outer: around.ctes,
    used: () => {
      isRecursive = true;
    },
  };
  const second = closed(bindSelect(rarg, { ...around, ctes: self }), around);
  const holds = (first.outputs ?? []).every(({ term }, position) => {
    if (term === undefined || term.kind !== 'set') return true;
    const again = keysOfTerm(second.outputs?.[position]?.term, around.facts);
    return again !== undefined && isSubset(again, term.keys);
  });
  if (isRecursive && !holds)
    around.analysis.doubts.push(`recursive query "${expression.ctename}" may leave its tenant`);
  if (sortClause || limitCount || limitOffset) around.analysis.doubts.push('a recursive query with ORDER BY or LIMIT');
  const outputs = isRecursive ? assumed : eitherOf(first.outputs, second.outputs, around.facts);
  return {
    outputs,
    columns: outputs === undefined ? opaque : columnsOf(outputs),
    holds: [],
    restrict(facts) {
      first.restrict(facts);
      second.restrict(facts);
    },
  };
}
