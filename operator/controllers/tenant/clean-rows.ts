/**
 * Deletes all rows of one tenant on one shard, in small transactions, then its ownership row: what `deletionPolicy: Delete` asks for.
 * Each batch holds the tenant's lock exclusively and checks that the tenant is still being cleaned at the same epoch, so that a
 * batch of a paused operator can't delete rows of a tenant that came back (docs/design.md, section 5, "Cleaning").
 *
 * `session_replication_role = replica` keeps the triggers out: those that refuse writes for a tenant that isn't active, and those of
 * foreign keys, since all rows of the tenant go, whatever the order of tables. Only a superuser may set it.
 * Source: PostgreSQL documentation, "Client Connection Defaults", session_replication_role.
 */
import { type Client, escapeIdentifier } from 'pg';
import type { KeyspaceSpec } from '#crds/index.ts';
import { tenantLockClass } from '#operator/postgres/ownership/lock.ts';
import { removeTenant, setTenant } from '#operator/postgres/ownership/tenants.ts';
import type { OwnershipRow } from './snapshot.ts';

export interface CleaningOptions {
  readonly keyType: KeyspaceSpec['tenantKey']['type'];
  /** Rows of one transaction; default 2000. */
  readonly batchRows?: number;
  /** Stops between two batches after this long; default 10 s. The next call goes on. */
  readonly budgetMs?: number;
}

/** `finished`: no row of the tenant is left, nor its ownership row. */
export type CleaningResult = { readonly finished: boolean; readonly deletedRows: number };

const defaultBatchRows = 2_000;
const defaultBudgetMs = 10_000;

/** @param row As the shard has it; undefined when it has none, so that nobody can write for the tenant here. */
export async function cleanRows(
  client: Client,
  key: string,
  row: OwnershipRow | undefined,
  options: CleaningOptions,
): Promise<CleaningResult> {
  const { batchRows = defaultBatchRows, budgetMs = defaultBudgetMs } = options;
  const endMs = performance.now() + budgetMs;
  const cleaning = row === undefined ? undefined : { ...row, state: 'cleaning' as const };
  if (row !== undefined && cleaning !== undefined && row.state !== 'cleaning') {
    const { epoch, attempt } = row;
    const change = await setTenant(client, { key, epoch, attempt, state: 'cleaning', from: row });
    if (change.kind === 'refused') throw new Error('the tenant was changed by somebody else meanwhile');
  }
  let deletedRows = 0;
  for (const table of await tenantTables(client)) {
    for (;;) {
      const deleted = await deleteBatch(client, table, key, cleaning, options.keyType, batchRows);
      deletedRows += deleted;
      if (deleted < batchRows) break;
      if (performance.now() > endMs) return { finished: false, deletedRows };
    }
  }
  if (cleaning !== undefined) {
    const change = await removeTenant(client, { key, from: cleaning });
    if (change.kind === 'refused') throw new Error('the tenant was changed by somebody else meanwhile');
  }
  return { finished: true, deletedRows };
}

interface TenantTable {
  readonly schema_name: string;
  readonly table_name: string;
  readonly tenant_column: string;
}

async function tenantTables(client: Client): Promise<readonly TenantTable[]> {
  const { rows } = await client.query<TenantTable>(
    // The catalogue has views as well, and partitions are covered by their parent.
    `select schema_name, table_name, tenant_column
     from meridian.router_catalogue() join pg_class c on c.oid = format('%I.%I', schema_name, table_name)::regclass
     where kind = 'tenant' and c.relkind in ('r', 'p') and not c.relispartition
     order by schema_name, table_name`,
  );
  return rows;
}

async function deleteBatch(
  client: Client,
  table: TenantTable,
  key: string,
  cleaning: OwnershipRow | undefined,
  keyType: CleaningOptions['keyType'],
  batchRows: number,
): Promise<number> {
  const name = `${escapeIdentifier(table.schema_name)}.${escapeIdentifier(table.table_name)}`;
  const column = escapeIdentifier(table.tenant_column);
  await client.query('begin');
  await client.query("set local session_replication_role = 'replica'");
  await assertUnowned(client, key, cleaning);
  // In a partitioned table the same ctid may be another row of another partition: the second look at the key keeps it.
  const { rowCount } = await client.query(
    `delete from ${name} where ${column} = $1::${keyType} and ctid = any (array(
       select ctid from ${name} where ${column} = $1::${keyType} limit $2))`,
    [key, batchRows],
  );
  await client.query('commit');
  return rowCount ?? 0;
}

/** Takes the tenant's lock, if it has a row, and checks that nobody owns it here. */
async function assertUnowned(client: Client, key: string, cleaning: OwnershipRow | undefined): Promise<void> {
  await client.query('select pg_advisory_xact_lock($1::int, serial) from meridian.ownership where key = $2', [
    tenantLockClass,
    key,
  ]);
  const { rows } = await client.query<{ state: string; epoch: string; attempt: number }>(
    'select state, epoch, attempt from meridian.ownership where key = $1 for update',
    [key],
  );
  const found = rows[0];
  const isAsExpected =
    cleaning === undefined
      ? found === undefined
      : found?.state === 'cleaning' && Number(found.epoch) === cleaning.epoch && found.attempt === cleaning.attempt;
  if (!isAsExpected) throw new Error('the tenant was changed by somebody else meanwhile');
}
