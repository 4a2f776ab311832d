/**
 * The policies and triggers of a tenant table, as DDL for one table. `meridian.pattern` is an empty table that has them: what Postgres
 * says about it is what every protected table must look like, so `protect.ts` compares in Postgres' own words and changes nothing that is right.
 */
import { ownerRole } from '#core/roles.ts';
import { identifier, qualified } from '../sql-text.ts';
import { sessionTenantSql } from './login-sql.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

export const patternTable = { schema: 'meridian', name: 'pattern' } as const;

/** Names start with `~`, which sorts after every other name, so that row triggers see what all others have made of the row. */
export const policies = ['~meridian_tenant', '~meridian_operator'] as const;
export const rowTriggers = ['~meridian_insert', '~meridian_update', '~meridian_delete'] as const;
export const triggers = ['~meridian_statement', ...rowTriggers, '~meridian_truncate'] as const;

export type Policy = (typeof policies)[number];
export type Trigger = (typeof triggers)[number];

/** What follows `create policy NAME on TABLE`. */
const policyBodies: Readonly<Record<Policy, (key: TenantKey) => string>> = {
  // For everybody, the owner included: so views and SECURITY DEFINER functions that a migration makes are pinned, too.
  '~meridian_tenant': (key) => `using (${identifier(key.column)} operator(pg_catalog.=) ${sessionTenantSql(key)})`,
  // Migrations run as the owner in a superuser's session and see all tenants.
  '~meridian_operator': () => `to ${ownerRole} using (meridian.login_is_operator())`,
};

/** Events, level and function; all are BEFORE triggers. */
const triggerBodies: Readonly<Record<Trigger, readonly [events: string, level: string, routine: string]>> = {
  '~meridian_statement': ['insert or update or delete', 'statement', 'meridian.claim_statement()'],
  '~meridian_insert': ['insert', 'row', 'meridian.claim_insert()'],
  '~meridian_update': ['update', 'row', 'meridian.claim_update()'],
  '~meridian_delete': ['delete', 'row', 'meridian.claim_delete()'],
  '~meridian_truncate': ['truncate', 'statement', 'meridian.refuse_truncate()'],
};

export const createPolicySql = (policy: Policy, schema: string, table: string, key: TenantKey): string =>
  `create policy ${identifier(policy)} on ${qualified(schema, table)} ${policyBodies[policy](key)}`;

export function createTriggerSql(trigger: Trigger, schema: string, table: string): string {
  const [events, level, routine] = triggerBodies[trigger];
  return `create trigger ${identifier(trigger)} before ${events} on ${qualified(schema, table)} for each ${level} execute function ${routine}`;
}

export function patternSql(key: TenantKey): string {
  const { schema, name } = patternTable;
  return `
drop table if exists ${qualified(schema, name)};
create table ${qualified(schema, name)} (${identifier(key.column)} ${catalogType(key)} not null);
alter table ${qualified(schema, name)} enable row level security, force row level security;
${policies.map((policy) => `${createPolicySql(policy, schema, name, key)};`).join('\n')}
${triggers.map((trigger) => `${createTriggerSql(trigger, schema, name)};`).join('\n')}
`;
}
