/**
 * The rows of `meridian.ownership`: which tenants this shard owns. Each change is a compare-and-swap in a transaction of its own.
 * Invariants: epochs never go down; whatever changes a row holds the tenant's lock exclusively, so no transaction that wrote under the
 * old state is still open (a writer that ends an expired freeze is the exception: it only opens, and the row itself decides the race).
 */
import type { ClientBase } from 'pg';
import { inTransaction } from '../sql-text.ts';
import { readSettings } from './install.ts';
import { tenantLockClass } from './lock.ts';
import { catalogType } from './tenant-key.ts';

export const tenantStates = ['active', 'frozen', 'sealed', 'moved', 'cleaning'] as const;
export type TenantState = (typeof tenantStates)[number];

/** What a change is compared with, and what it writes. */
export interface TenantAuthority {
  /** From 1 on; never goes down. */
  readonly epoch: number;
  readonly state: TenantState;
  /** The attempt of the move that this state belongs to; 0 outside moves. */
  readonly attempt: number;
}

export interface OwnedTenant extends TenantAuthority {
  /** The tenant key in its text form, whatever its type. */
  readonly key: string;
  /** Stands for the tenant in advisory locks of this shard. */
  readonly serial: number;
  /** When a freeze ends by itself; only with state `frozen`. */
  readonly until: Date | undefined;
}

export interface TenantChange extends TenantAuthority {
  readonly key: string;
  /** With state `frozen`, and only then: when the freeze ends by itself, by this server's clock. */
  readonly until?: Date;
  /** The row must be exactly this, or already as wanted. Without it the row must be absent, or already as wanted. */
  readonly from?: TenantAuthority;
}

export type TenantChangeResult =
  | { readonly kind: 'written' | 'unchanged' }
  /** The row is neither `from` nor as wanted: somebody else decided. `found` is undefined if there is none. */
  | { readonly kind: 'refused'; readonly found: OwnedTenant | undefined };

/**
 * Waits for the tenant's writers if there is a row to change (bounded by the session's `lock_timeout`: 55P03); from the moment it
 * waits, new writers get MD001. A freeze is sealed only while it lasts.
 */
export async function setTenant(client: ClientBase, change: TenantChange): Promise<TenantChangeResult> {
  const key = await canonicalKey(client, change.key);
  return inTransaction(client, async () => {
    const serial = await serialOf(client, key);
    const present = await lockRow(client, key, serial);
    if (present !== undefined && isAsWanted(present, change)) return { kind: 'unchanged' };
    if (!isFrom(present, change.from) || (present !== undefined && change.epoch < present.epoch)) {
      return { kind: 'refused', found: present };
    }
    const { rowCount } = await client.query(
      present === undefined
        ? `insert into meridian.ownership (serial, key, epoch, state, attempt, until) values ($1, $2, $3, $4, $5, $6)`
        : `update meridian.ownership set epoch = $3, state = $4, attempt = $5, until = $6
           where serial = $1 and key = $2 and ($4 <> 'sealed' or state = 'sealed' or (state = 'frozen' and until > clock_timestamp()))`,
      [serial, key, change.epoch, change.state, change.attempt, change.until ?? null],
    );
    if (rowCount !== 1) return { kind: 'refused', found: present };
    // Writers may do the same to an expired freeze, so the table's trigger doesn't count it; here it is worth that plans are made anew.
    if (present?.state === 'frozen' && change.state === 'active') await client.query('select meridian.next_version()');
    return { kind: 'written' };
  });
}

/** Takes the tenant's row away, so that this shard refuses its writes; rows in tenant tables stay. */
export async function removeTenant(
  client: ClientBase,
  tenant: { readonly key: string; readonly from: TenantAuthority },
): Promise<TenantChangeResult> {
  const key = await canonicalKey(client, tenant.key);
  return inTransaction(client, async () => {
    const { rows } = await client.query<{ serial: number }>('select serial from meridian.tenant where key = $1', [key]);
    const serial = rows[0]?.serial;
    if (serial === undefined) return { kind: 'unchanged' };
    const present = await lockRow(client, key, serial);
    if (present === undefined) return { kind: 'unchanged' };
    if (!isFrom(present, tenant.from)) return { kind: 'refused', found: present };
    await client.query('delete from meridian.ownership where serial = $1', [serial]);
    return { kind: 'written' };
  });
}

/** In the order of their keys. */
export async function readTenants(client: ClientBase): Promise<readonly OwnedTenant[]> {
  const { rows } = await client.query<OwnershipRow>(`${selectRows} order by key collate "C"`);
  return rows.map(fromRow);
}

/** The key as Postgres writes it (a uuid in lower case, a number without leading zeros), or an error with SQLSTATE 22P02. */
export async function canonicalKey(client: ClientBase, key: string): Promise<string> {
  const { tenantKey } = await readSettings(client);
  const { rows } = await client.query<{ key: string }>(`select ($1::text)::${catalogType(tenantKey)}::text as key`, [
    key,
  ]);
  const canonical = rows[0]?.key;
  if (canonical === undefined || canonical === '') throw new TypeError('a tenant key may not be empty');
  return canonical;
}

/** The tenant's serial; the first question makes it. Inside a transaction. */
export async function serialOf(client: ClientBase, key: string): Promise<number> {
  const select = 'select serial from meridian.tenant where key = $1';
  const found = await client.query<{ serial: number }>(select, [key]);
  if (found.rows[0] !== undefined) return found.rows[0].serial;
  await client.query('insert into meridian.tenant (key) values ($1) on conflict (key) do nothing', [key]);
  const made = await client.query<{ serial: number }>(select, [key]);
  if (made.rows[0] === undefined) throw new Error(`tenant ${key} got no serial`);
  return made.rows[0].serial;
}

interface OwnershipRow {
  readonly key: string;
  readonly serial: number;
  readonly epoch: string;
  readonly state: TenantState;
  readonly attempt: number;
  readonly until: Date | null;
}

const selectRows = 'select key, serial, epoch, state, attempt, until from meridian.ownership';

const fromRow = (row: OwnershipRow): OwnedTenant => ({
  key: row.key,
  serial: row.serial,
  epoch: Number(row.epoch),
  state: row.state,
  attempt: row.attempt,
  until: row.until ?? undefined,
});

/** The row, under the tenant's exclusive lock. Without a row everybody is refused already. */
async function lockRow(client: ClientBase, key: string, serial: number): Promise<OwnedTenant | undefined> {
  const select = `${selectRows} where key = $1`;
  const glance = await client.query<OwnershipRow>(select, [key]);
  if (glance.rows[0] === undefined) return undefined;
  await client.query('select pg_catalog.pg_advisory_xact_lock($1::integer, $2::integer)', [tenantLockClass, serial]);
  const { rows } = await client.query<OwnershipRow>(`${select} for update`, [key]);
  return rows[0] && fromRow(rows[0]);
}

const isFrom = (present: TenantAuthority | undefined, from: TenantAuthority | undefined): boolean =>
  present === undefined || from === undefined
    ? present === undefined && from === undefined
    : present.epoch === from.epoch && present.state === from.state && present.attempt === from.attempt;

const isAsWanted = (present: OwnedTenant, wanted: TenantChange): boolean =>
  isFrom(present, wanted) && present.until?.getTime() === wanted.until?.getTime();
