/**
 * The policies and triggers of a tenant table, as DDL for one table. Empty tables in schema `meridian` have them: what Postgres says about
 * those is what every protected table must look like, so `protect.ts` compares in Postgres' own words and changes nothing that is right.
 */
import { ownerRole } from '#core/roles.ts';
import { identifier, qualified } from '../sql-text.ts';
import { newRowTenantSql, presentRowTenantSql, readTenantSql } from './login-sql.ts';
import { catalogType, type TenantKey } from './tenant-key.ts';

/** Partitioned tables and their partitions differ from others in one thing: how a change of a row's tenant is held (see `policyBody`). */
export type Shape = 'plain' | 'partitioned';
export const patternTables: Readonly<Record<Shape, { schema: string; name: string }>> = {
  plain: { schema: 'meridian', name: 'pattern' },
  partitioned: { schema: 'meridian', name: 'pattern_partitioned' },
};

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
export const triggers = ['meridian_statement', 'meridian_truncate', 'meridian_tenant_change'] as const;

export type Policy = (typeof policies)[number];
export type Trigger = (typeof triggers)[number];

/**
 * What follows `create policy NAME on TABLE`. The first four are for everybody, the owner included: so views and SECURITY DEFINER
 * functions that a migration makes are pinned, too. Migrations run as the owner in a superuser's session and see all tenants.
 *
 * An UPDATE claims the tenant of the new row. That the old row's is the same is held by a trigger that costs nothing unless the statement
 * sets the tenant column. Rows that move between partitions fire no such trigger, so there the old row's tenant is claimed, too.
 */
function policyBody(policy: Policy, shape: Shape, key: TenantKey): string {
  const column = identifier(key.column);
  const equals = (tenant: string): string => `(${column} operator(pg_catalog.=) ${tenant})`;
  const operator = `to ${ownerRole}`;
  const operatorWrite = `(meridian.login_is_operator() and meridian.claim_tenant(${column}))`;
  const updated = shape === 'partitioned' ? presentRowTenantSql(key) : readTenantSql(key);
  const bodies: Readonly<Record<Policy, string>> = {
    meridian_select: `for select using ${equals(readTenantSql(key))}`,
    meridian_insert: `for insert with check ${equals(newRowTenantSql(key))}`,
    meridian_update: `for update using ${equals(updated)} with check ${equals(newRowTenantSql(key))}`,
    meridian_delete: `for delete using ${equals(presentRowTenantSql(key))}`,
    meridian_operator_select: `for select ${operator} using (meridian.login_is_operator())`,
    meridian_operator_insert: `for insert ${operator} with check ${operatorWrite}`,
    meridian_operator_update: `for update ${operator} using ${shape === 'partitioned' ? operatorWrite : '(meridian.login_is_operator())'} with check ${operatorWrite}`,
    meridian_operator_delete: `for delete ${operator} using ${operatorWrite}`,
  };
  return bodies[policy];
}

export const createPolicySql = (policy: Policy, shape: Shape, schema: string, table: string, key: TenantKey): string =>
  `create policy ${identifier(policy)} on ${qualified(schema, table)} ${policyBody(policy, shape, key)}`;

export const triggersOf = (shape: Shape): readonly Trigger[] =>
  shape === 'plain' ? triggers : triggers.filter((trigger) => trigger !== 'meridian_tenant_change');

/** Row triggers cost everybody, even where a WHEN says no; but one for a column that isn't set is passed over before that. */
export function createTriggerSql(trigger: Trigger, schema: string, table: string, key: TenantKey): string {
  const create = `create trigger ${identifier(trigger)}`;
  const on = qualified(schema, table);
  const column = identifier(key.column);
  const bodies: Readonly<Record<Trigger, string>> = {
    meridian_statement: `before insert or update or delete on ${on} for each statement execute function meridian.claim_statement()`,
    meridian_truncate: `before truncate on ${on} for each statement execute function meridian.refuse_truncate()`,
    meridian_tenant_change: `after update of ${column} on ${on} for each row when (old.${column} operator(pg_catalog.<>) new.${column}) execute function meridian.check_tenant_change()`,
  };
  return `${create} ${bodies[trigger]}`;
}

export const patternSql = (key: TenantKey): string =>
  (['plain', 'partitioned'] as const).map((shape) => patternOf(shape, key)).join('');

function patternOf(shape: Shape, key: TenantKey): string {
  const { schema, name } = patternTables[shape];
  const table = qualified(schema, name);
  return `
drop table if exists ${table};
create table ${table} (${identifier(key.column)} ${catalogType(key)} not null);
alter table ${table} enable row level security, force row level security;
${policies.map((policy) => `${createPolicySql(policy, shape, schema, name, key)};`).join('\n')}
${triggersOf(shape)
  .map((trigger) => `${createTriggerSql(trigger, schema, name, key)};`)
  .join('\n')}
`;
}
