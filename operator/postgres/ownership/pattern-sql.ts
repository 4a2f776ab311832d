/**
 * The policies and triggers of a tenant table, as DDL for one table. `meridian.pattern` is an empty table that has them: what Postgres
 * says about it is what every protected table must look like, so `protect.ts` compares in Postgres' own words and changes nothing that is right.
 */
import { ownerRole } from '#core/roles.ts';
import { identifier, qualified } from '../sql-text.ts';
import { readTenantSql, writeTenantSql } from './login-sql.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

export const patternTable = { schema: 'meridian', name: 'pattern' } as const;

export const policies = [
  'meridian_select',
  'meridian_insert',
  'meridian_update',
  'meridian_delete',
  'meridian_operator_select',
  'meridian_operator_insert',
  'meridian_operator_update',
  'meridian_operator_delete',
] as const;
export const triggers = ['meridian_statement', 'meridian_truncate'] as const;

export type Policy = (typeof policies)[number];
export type Trigger = (typeof triggers)[number];

/**
 * What follows `create policy NAME on TABLE`. The first four are for everybody, the owner included: so views and SECURITY DEFINER
 * functions that a migration makes are pinned, too. Migrations run as the owner in a superuser's session and see all tenants.
 */
function policyBody(policy: Policy, key: TenantKey): string {
  const column = identifier(key.column);
  const read = `(${column} operator(pg_catalog.=) ${readTenantSql(key)})`;
  const write = `(${column} operator(pg_catalog.=) ${writeTenantSql})`;
  const operator = `to ${ownerRole}`;
  const operatorWrite = `(meridian.login_is_operator() and meridian.claim_tenant(${column}))`;
  const bodies: Readonly<Record<Policy, string>> = {
    meridian_select: `for select using ${read}`,
    meridian_insert: `for insert with check ${write}`,
    meridian_update: `for update using ${write} with check ${write}`,
    meridian_delete: `for delete using ${write}`,
    meridian_operator_select: `for select ${operator} using (meridian.login_is_operator())`,
    meridian_operator_insert: `for insert ${operator} with check ${operatorWrite}`,
    meridian_operator_update: `for update ${operator} using ${operatorWrite} with check ${operatorWrite}`,
    meridian_operator_delete: `for delete ${operator} using ${operatorWrite}`,
  };
  return bodies[policy];
}

/** Statement triggers only: a row trigger would cost everybody, even where its WHEN says no. */
const triggerBodies: Readonly<Record<Trigger, readonly [events: string, routine: string]>> = {
  meridian_statement: ['insert or update or delete', 'meridian.claim_statement()'],
  meridian_truncate: ['truncate', 'meridian.refuse_truncate()'],
};

export const createPolicySql = (policy: Policy, schema: string, table: string, key: TenantKey): string =>
  `create policy ${identifier(policy)} on ${qualified(schema, table)} ${policyBody(policy, key)}`;

export function createTriggerSql(trigger: Trigger, schema: string, table: string): string {
  const [events, routine] = triggerBodies[trigger];
  return `create trigger ${identifier(trigger)} before ${events} on ${qualified(schema, table)} for each statement execute function ${routine}`;
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
