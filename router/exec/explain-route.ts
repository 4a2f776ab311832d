/**
 * What `EXPLAIN (ROUTE)` answers: where a statement would go now, and why; or why it would be refused. Pure. Decides nothing: it asks what
 * routing asks, and says from where the answer came.
 */
import { RouterError } from '../errors.ts';
import type { ClusterMap } from '../map/map.ts';
import type { ChosenMember } from './member-choice.ts';
import { levelOf, type Route, routeStatement, type SessionToRoute, type StatementToRoute } from './route.ts';

export const explainColumns = ['item', 'value', 'why'] as const;

type Line = readonly [item: string, value: string | null, why: string];

export interface ExplainInput {
  readonly map: ClusterMap;
  readonly session: SessionToRoute;
  readonly statement: StatementToRoute;
  /** Those that may serve it now, best first. @throws RouterError */
  readonly members: (route: Route) => readonly ChosenMember[];
}

export function explainRoute({ map, session, statement, members }: ExplainInput): readonly Line[] {
  const lines: Line[] = [];
  try {
    const route = routeStatement(map, session, statement);
    lines.push(tenantLine(route, session, statement), shardLine(route, map), accessLine(route, session, statement));
    lines.push(levelLine(route, map, session, statement));
    const [first, ...others] = members(route);
    if (first === undefined) lines.push(['member', null, 'none can serve it now: it would wait']);
    else lines.push(['member', first.member.name, memberReason(first, route)]);
    if (others.length > 0)
      lines.push(['otherwise', others.map(({ member }) => member.name).join(', '), 'in that order']);
    lines.push(['shares', statement.plan.mayShare ? 'yes' : 'no', sharingReason(statement)]);
  } catch (error) {
    if (!(error instanceof RouterError)) throw error;
    lines.push([
      'refused',
      error.sqlstate,
      error.hint === undefined ? error.message : `${error.message}. ${error.hint}`,
    ]);
  }
  return lines;
}

function tenantLine(route: Route, session: SessionToRoute, { plan, hints }: StatementToRoute): Line {
  const why = (): string => {
    if (route.tenant === undefined) return 'it touches no tenant-owned table';
    if (session.login.fixedTenant !== undefined) return `role "${session.login.role}" is that tenant's own`;
    if (session.tenant !== undefined) return 'meridian.tenant';
    if (hints.tenant !== undefined) return 'the comment at its start';
    if (plan.tenant.from === 'parameters') return 'every tenant-owned table is restricted to it, by parameters';
    return 'every tenant-owned table is restricted to it, by its text';
  };
  return ['tenant', route.tenant ?? null, why()];
}

function shardLine({ tenant, shard }: Route, map: ClusterMap): Line {
  if (shard === undefined) return ['shard', null, 'any: what it reads is the same everywhere'];
  const owner = map.tenants.get(tenant ?? '');
  return ['shard', shard, `owns the tenant, epoch ${owner?.epoch ?? 0}, ${owner?.state ?? 'unknown'}`];
}

function accessLine({ primaryOnly }: Route, session: SessionToRoute, { plan }: StatementToRoute): Line {
  if (plan.access === 'write')
    return ['access', 'write', 'it changes or locks rows, or calls what is not known to be free of side effects'];
  if (session.isWritingTransaction) return ['access', 'read', 'in a transaction that may write'];
  return ['access', 'read', primaryOnly ? 'as new as the primary' : 'any member that keeps its level'];
}

function levelLine(route: Route, map: ClusterMap, session: SessionToRoute, statement: StatementToRoute): Line {
  const bound = route.maxStalenessMs === undefined ? '' : ` (${route.maxStalenessMs} ms)`;
  return ['consistency', `${route.level}${bound}`, levelReason(map, session, statement)];
}

/** In the order of `levelOf`. */
function levelReason(map: ClusterMap, session: SessionToRoute, statement: StatementToRoute): string {
  if (statement.hints.consistency !== undefined) return 'the comment at its start';
  if (session.level !== undefined) return 'meridian.consistency';
  const { rules } = map.keyspace.consistency;
  const { workflow, login } = session;
  if (rules.some((rule) => rule.workflow !== undefined && rule.workflow === workflow))
    return `the rule for workflow "${workflow}"`;
  const ruled = levelOf(map, session, statement);
  const without = levelOf(map, session, { ...statement, plan: { ...statement.plan, tables: [] } });
  if (ruled.level !== without.level || ruled.maxStalenessMs !== without.maxStalenessMs) return 'rules for its tables';
  if (rules.some((rule) => rule.role !== undefined && rule.role === login.role))
    return `the rule for role "${login.role}"`;
  return "the keyspace's default";
}

function memberReason({ member, isPrimary }: ChosenMember, route: Route): string {
  const where = `region ${member.region}`;
  if (route.primaryOnly) return `the primary, ${where}`;
  return isPrimary ? `the primary, ${where}: no follower comes before it` : `the nearest follower that may, ${where}`;
}

const sharingReason = ({ plan }: StatementToRoute): string =>
  plan.mayShare
    ? 'outside a transaction it may share a connection with other clients'
    : 'only a plain read that calls nothing volatile may share a connection';
