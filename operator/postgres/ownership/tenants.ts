/**
 * The rows of `meridian.ownership`: which tenants this shard owns. Each change is a compare-and-swap.
 */
import type { ClientBase } from 'pg';

export type TenantState = 'active' | 'frozen' | 'sealed' | 'moved' | 'cleaning';

/** What a change is compared with, and what it writes. */
export interface TenantAuthority {
  /** Never goes down. */
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
  readonly until?: Date;
  /** The row must be exactly this, or already as wanted. Without it the row must be absent, or already as wanted. */
  readonly from?: TenantAuthority;
}

export type TenantChangeResult =
  | { readonly kind: 'written' | 'unchanged' }
  /** The row is neither `from` nor as wanted: somebody else decided. `found` is undefined if there is none. */
  | { readonly kind: 'refused'; readonly found: OwnedTenant | undefined };

/**
 * Anything but making an absent tenant active takes the tenant's lock exclusively first, and so waits for its writers
 * (bounded by the session's `lock_timeout`).
 */
export async function setTenant(_client: ClientBase, _change: TenantChange): Promise<TenantChangeResult> {
  throw new Error('not written yet');
}

/** Takes the tenant's row away, so that this shard refuses its writes; rows in tenant tables stay. */
export async function removeTenant(
  _client: ClientBase,
  _tenant: { readonly key: string; readonly from: TenantAuthority },
): Promise<TenantChangeResult> {
  throw new Error('not written yet');
}

export async function readTenants(_client: ClientBase): Promise<readonly OwnedTenant[]> {
  throw new Error('not written yet');
}
