/**
 * The tenants that a whole statement is restricted to: sound, so that a statement that isn't surely restricted is
 * unrestricted, with the reason.
 */
import type { Node, RangeVar } from '@pgsql/types';
import { needValue } from '../literals.ts';
import type { Catalogue, TenantSource } from '../types.ts';
import { Analysis, type Occurrence, type ViewQuery } from './analysis.ts';
import { bindDataModifying } from './modify.ts';
import { bindSelect } from './query.ts';
import { Facts, identityOf, type KeySet, sizeOf, unionOfKeys } from './terms.ts';

/** Past this many relations nothing is concluded: the work per statement stays bounded. */
const maxRelations = 200;

/**
 * @param statement SELECT, INSERT, UPDATE, DELETE or MERGE.
 * @param mentions every mention of a relation in it and in the views that it reads, found without understanding it.
 */
export function tenantSourceOf(
  statement: Node,
  mentions: ReadonlySet<RangeVar>,
  catalogue: Catalogue,
  viewQuery: ViewQuery,
): { readonly tenant: TenantSource; readonly relations: ReadonlySet<RangeVar> } {
  const analysis = new Analysis(catalogue, viewQuery);
  if (mentions.size > maxRelations)
    return { tenant: unrestricted(`it names more than ${maxRelations} tables`), relations: mentions };
  const around = { analysis, outer: undefined, ctes: undefined, facts: new Facts([]) };
  const bound =
    'SelectStmt' in statement ? bindSelect(statement.SelectStmt, around) : bindDataModifying(statement, around);
  bound.restrict(around.facts);
  for (const mention of mentions) {
    if (analysis.visited.has(mention)) continue;
    const relation = analysis.relation(mention);
    if (relation.kind === 'tenant' || relation.kind === 'undeclared')
      analysis.doubts.push(`table "${mention.relname}" stands where it is not known what restricts it`);
  }
  const relations = new Set([...mentions].filter((mention) => !analysis.ctes.has(mention)));
  return { tenant: conclude(analysis, relations), relations };
}

const unrestricted = (why: string, named?: KeySet): TenantSource => ({
  from: 'unrestricted',
  why,
  ...(named !== undefined && named.values.length > 0 && { names: named.values }),
  ...literalsOf(named?.literals ?? []),
});

const literalsOf = (literals: readonly number[]): { literals?: readonly number[] } =>
  literals.length > 0 ? { literals } : {};

function conclude(analysis: Analysis, relations: ReadonlySet<RangeVar>): TenantSource {
  const { occurrences } = analysis;
  const names = unionOfKeys(occurrences.flatMap(({ keys }) => (keys === undefined ? [] : [keys])));
  const open = occurrences.find(({ keys }) => keys === undefined);
  if (open !== undefined) return unrestricted(reasonOf(open, analysis), names);
  const [doubt] = analysis.doubts;
  if (doubt !== undefined) return unrestricted(doubt, names);
  for (const mention of relations) {
    const relation = analysis.relation(mention);
    if (relation.kind === 'undeclared')
      return unrestricted(`relation "${relation.name}" is not a table of the keyspace`, names);
  }
  const sets = occurrences.flatMap(({ keys }) => (keys === undefined ? [] : [keys]));
  const [first] = sets;
  return first === undefined ? { from: 'none' } : agreed(sets, first, names);
}

function agreed(sets: readonly KeySet[], first: KeySet, names: KeySet): TenantSource {
  const identity = identityOf(first);
  if (sets.every((keys) => identityOf(keys) === identity)) return sourceOf(first, false);
  if (sets.some((keys) => keys.literals.length > 0 && sizeOf(keys) > 1)) needValue();
  const all = unionOfKeys(sets);
  if (all.values.length > 1) return unrestricted(`it is about several tenants: ${all.values.join(', ')}`, names);
  return sourceOf(all, true);
}

function sourceOf({ indexes, values, literals }: KeySet, mustAgree: boolean): TenantSource {
  const more = { ...literalsOf(literals), ...(mustAgree && { mustAgree }) };
  return indexes.length === 0
    ? { from: 'constant', values, ...more }
    : { from: 'parameters', indexes, values, ...more };
}

function reasonOf({ table, reason }: Occurrence, { tenantColumn }: Analysis): string {
  return reason ?? `nothing restricts table "${table}" to one ${tenantColumn}`;
}
