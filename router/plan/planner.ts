/**
 * From SQL text to plans, one per statement: parsed with the real grammar, classified, gated, and restricted to tenants.
 * Pure but for the parser's memory; every text gives the same plans again, so that they can be cached.
 */
import type { Node, ParseResult, RangeVar } from '@pgsql/types';
import { blindMerge } from './blind-merge.ts';
import { configuredBy, refusalOf } from './gate.ts';
import { parseHints } from './hints.ts';
import { calledNames, callsShippedOnly, foreignCall, type Inventory, isRead, takeInventory } from './inventory.ts';
import { eraseLiterals, saysTheSame, withoutValues } from './literals.ts';
import { parametersOf } from './parameters.ts';
import { Parser } from './parser.ts';
import { relationOf } from './restriction/analysis.ts';
import { tenantSourceOf } from './restriction/tenant-source.ts';
import { type Described, describe } from './statement.ts';
import {
  type Catalogue,
  type Constants,
  PlanError,
  type Planner,
  type ShapedPlan,
  type StatementKind,
  type StatementPlan,
  type TenantSource,
} from './types.ts';
import { Views } from './views.ts';
import { forEachChild } from './walk.ts';

/** Loads the grammar; takes some tens of milliseconds, once per thread. */
export async function createPlanner(): Promise<Planner> {
  const parser = await Parser.create();
  const views = new Views(parser);
  return {
    parseHints,
    plan: (sql, catalogue) => guarded(() => plansOf(sql, parser.parse(sql), catalogue, views)),
    planShape: (sql, constants, catalogue) =>
      guarded(() => {
        const parsed = parser.parse(sql);
        const plans = plansOf(sql, parsed, catalogue, views);
        const [own] = plans;
        const statement = parsed.stmts?.[0]?.stmt;
        if (own === undefined || statement === undefined || plans.length > 1) return { plans };
        return { plans, shaped: shapedPlan(own, statement, Buffer.from(sql), constants, catalogue, views) };
      }),
  };
}

function guarded<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new PlanError('54001', 'the statement is nested too deeply to be planned');
  }
}

/** Of these alone nothing else than the planner looks at constants. */
const shapeable: ReadonlySet<StatementKind> = new Set(['select', 'insert', 'update', 'delete', 'merge']);

/** Statements in one text: they are planned in one go, and everybody else on the worker waits meanwhile. */
const maxStatements = 1_000;

/** Undoes the tree. */
function shapedPlan(
  own: StatementPlan,
  statement: Node,
  text: Buffer,
  constants: Constants,
  catalogue: Catalogue,
  views: Views,
): ShapedPlan {
  const all = Array.from({ length: constants.count }, (_, index) => index);
  // With more schemas a table that is made later may come to stand before another, and a kept statement wouldn't see it.
  const isPathPlain = catalogue.searchPath.length === 1 && catalogue.searchPath[0] !== 'pg_catalog';
  const parameters = own.mayShare && isPathPlain ? parametersOf(statement, own, constants) : undefined;
  if (all.length === 0) return { plan: own, pinned: all, ...(parameters !== undefined && { parameters }) };
  if (!shapeable.has(own.kind)) return { plan: own, pinned: all };
  const pinned = eraseLiterals(statement, constants, text);
  const plan = withoutValues(() => planOf(statement, own.text, own, catalogue, views));
  if (plan === undefined || !saysTheSame(plan, own, constants)) return { plan: own, pinned: all };
  const isFree = parameters?.constants.every((index) => !pinned.includes(index)) === true;
  return { plan, pinned, ...(isFree && { parameters }) };
}

function plansOf(sql: string, { stmts = [] }: ParseResult, catalogue: Catalogue, views: Views): StatementPlan[] {
  if (stmts.length > maxStatements)
    throw new PlanError('54000', `more than ${maxStatements} statements in one text: ${stmts.length}`, {
      hint: 'Send fewer at a time, or rows as lists of VALUES or with COPY.',
    });
  const length = Buffer.byteLength(sql);
  // The grammar counts bytes of UTF-8.
  const bytes = length === sql.length ? undefined : Buffer.from(sql);
  const plans: StatementPlan[] = [];
  let previousEnd = 0;
  for (const { stmt, stmt_location = 0, stmt_len } of stmts) {
    if (stmt === undefined) continue;
    const end = stmt_len === undefined ? length : stmt_location + stmt_len;
    // From the end of the statement before, so that a comment ahead of the statement (a hint) belongs to it.
    const whole = bytes === undefined ? sql.slice(previousEnd, end) : bytes.toString('utf8', previousEnd, end);
    const separator = separatorLength(whole);
    plans.push(planOf(stmt, whole.slice(separator), { start: previousEnd + separator, end }, catalogue, views));
    previousEnd = end + 1;
  }
  return plans;
}

/** White space and empty statements ahead of a statement: ASCII, so that characters are bytes. */
const separatorLength = (text: string): number => /^[ \t\n\r\f\v;]*/.exec(text)?.[0].length ?? 0;

function planOf(
  statement: Node,
  text: string,
  { start, end }: Pick<StatementPlan, 'start' | 'end'>,
  catalogue: Catalogue,
  views: Views,
): StatementPlan {
  const described = describe(statement);
  const inventory = views.expanded(takeInventory(statement, catalogue.functions), catalogue);
  const inQuery = described.query === statement ? inventory.mentions : mentionsIn(described.query, catalogue, views);
  const restricted = restrictionOf(described, inventory, inQuery, catalogue, views);
  const systemTarget = inventory.targets.find((target) => relationOf(catalogue, target).kind === 'system');
  const refuse =
    refusalOf(statement, inventory.calls, systemTarget?.relname) ?? blindMerge(inventory.merges, catalogue);
  const access = accessOf(described, inventory);
  const configures = configuredBy(inventory.calls, statement);
  const asked = routeAsked(statement);
  return {
    text,
    start,
    end,
    kind: described.kind,
    access,
    mayShare:
      described.kind === 'select' &&
      access === 'read' &&
      restricted.touches !== 'unknown' &&
      // Whatever it is declared as: a function of somebody else's may set what the next client's statement would run under.
      foreignCall(inventory) === undefined &&
      callsShippedOnly(inventory) &&
      !catalogue.functions.runsUnseen &&
      refuse === undefined,
    ...restricted,
    calls: calledNames(inventory),
    ...(configures.length > 0 && { configures }),
    ...described.details,
    ...(asked !== undefined && {
      explained: {
        plan: planOf(asked, text, { start, end }, catalogue, views),
        parameterCount: highestParameter(asked),
      },
    }),
    ...(refuse !== undefined && asked === undefined && { refuse }),
  };
}

/** What stands behind EXPLAIN (ROUTE), which is no option of Postgres'. @throws PlanError where other options stand beside it. */
function routeAsked(statement: Node): Node | undefined {
  if (!('ExplainStmt' in statement)) return undefined;
  const { query, options = [] } = statement.ExplainStmt;
  const names = options.flatMap((node) => ('DefElem' in node ? [node.DefElem.defname ?? ''] : []));
  if (!names.includes('route')) return undefined;
  const other = names.find((name) => name !== 'route');
  if (other !== undefined) throw new PlanError('42601', `EXPLAIN option ROUTE can not be combined with "${other}"`);
  return query;
}

function highestParameter(node: object): number {
  let highest = 'ParamRef' in node ? ((node.ParamRef as { number?: number }).number ?? 0) : 0;
  forEachChild(node, (child) => {
    highest = Math.max(highest, highestParameter(child));
  });
  return highest;
}

type Restricted = Pick<StatementPlan, 'touches' | 'tenant' | 'tables'>;

/** Kinds that run what isn't in their text. */
const runsUnseen: ReadonlySet<StatementKind> = new Set(['execute', 'call', 'do']);

const mentionsIn = (query: Node | undefined, catalogue: Catalogue, views: Views): ReadonlySet<RangeVar> =>
  query === undefined ? new Set() : views.expanded(takeInventory(query, catalogue.functions), catalogue).mentions;

function restrictionOf(
  described: Described,
  inventory: Inventory,
  inQuery: ReadonlySet<RangeVar>,
  catalogue: Catalogue,
  views: Views,
): Restricted {
  const { kind, query, details } = described;
  const found =
    query === undefined
      ? undefined
      : tenantSourceOf(query, inQuery, catalogue, (name) => views.find(name, catalogue)?.select);
  // A new temporary table is nobody's; what it is filled from is in the query.
  const outside = details.temporary === true ? [] : [...inventory.mentions].filter((mention) => !inQuery.has(mention));
  const relations = [...(found?.relations ?? []), ...outside].map((mention) => relationOf(catalogue, mention));
  const foreign = foreignCall(inventory);
  const isUnseen = runsUnseen.has(kind) || (kind === 'explain' && query === undefined);

  const kinds = new Set(relations.map((relation) => relation.kind));
  const isUnknown = kinds.has('undeclared') || kinds.has('local') || foreign !== undefined || isUnseen;
  const touches = kinds.has('tenant')
    ? 'tenant'
    : isUnknown
      ? 'unknown'
      : kinds.has('reference')
        ? 'reference'
        : 'nothing';
  const tables = [
    ...new Set(
      relations.flatMap((relation) => ('name' in relation && relation.kind !== 'undeclared' ? [relation.name] : [])),
    ),
  ];
  return { touches, tables, tenant: tenantOf(kind, touches, found?.tenant, foreign) };
}

function tenantOf(
  kind: StatementKind,
  touches: StatementPlan['touches'],
  found: TenantSource | undefined,
  foreign: string | undefined,
): TenantSource {
  if (found === undefined || found.from === 'none') {
    if (touches === 'tenant') return { from: 'unrestricted', why: 'it is about whole tables' };
    if (touches !== 'unknown') return { from: 'none' };
    const why = foreign === undefined ? 'what it touches is not known' : readsUnseen(foreign);
    return { from: 'unrestricted', why };
  }
  if (touches === 'nothing' || touches === 'reference') return { from: 'none' };
  if (found.from === 'unrestricted') return found;
  const { values: names, literals } = found;
  const named = { names, ...(literals !== undefined && { literals }) };
  if (foreign !== undefined) return { from: 'unrestricted', why: readsUnseen(foreign), ...named };
  if (kind === 'prepare' && found.from === 'parameters')
    return { from: 'unrestricted', why: 'the parameters of PREPARE have no values yet', ...named };
  return found;
}

const readsUnseen = (name: string): string => `it calls ${name}(), which may read any tenant's rows`;

const reads: ReadonlySet<StatementKind> = new Set([
  'transaction',
  'set',
  'show',
  'reset',
  'discard',
  'deallocate',
  'fetch',
  'close',
]);
const readsIfQueryDoes: ReadonlySet<StatementKind> = new Set(['select', 'explain', 'declare', 'prepare', 'copy']);

function accessOf({ kind, query, details }: Described, inventory: Inventory): StatementPlan['access'] {
  if (reads.has(kind)) return 'read';
  if (!readsIfQueryDoes.has(kind) || details.copy?.direction === 'in') return 'write';
  if (query === undefined && kind !== 'copy') return 'write';
  return isRead(inventory) ? 'read' : 'write';
}
