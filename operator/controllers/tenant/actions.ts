/**
 * What the tenant controller can do, as data. The plans make them, `act.ts` does them.
 */
import type { TenantAuthority } from '#crds/index.ts';
import type { Tenant } from '#kube/meridian.ts';
import type { TenantChangeResult } from '#operator/postgres/ownership/tenants.ts';
import type { Plan } from '#operator/runtime/controller.ts';
import type { OwnershipRow, ShardAccess } from './snapshot.ts';

/** What placing found. `superseded`: somebody was placed since the loads were counted, and nothing was recorded. */
export type PlacementOutcome = 'superseded' | 'recorded' | TenantChangeResult;

export type TenantAction =
  /** Records the shard and, where it can be reached, has it own the tenant at once. */
  | {
      readonly kind: 'place';
      readonly shard: string;
      readonly key: string;
      readonly access: ShardAccess | undefined;
      readonly placementsSeen: number;
    }
  /** Writes the ownership row that `authority` says, where there is none. */
  | { readonly kind: 'own'; readonly access: ShardAccess; readonly key: string; readonly authority: TenantAuthority }
  /** Takes the row away, so that the shard refuses the tenant's writes; rows stay. */
  | { readonly kind: 'disown'; readonly access: ShardAccess; readonly key: string; readonly row: OwnershipRow }
  /** Takes the tenant's rows away, a batch after the other, then the ownership row. */
  | {
      readonly kind: 'clean';
      readonly access: ShardAccess;
      readonly key: string;
      readonly row: OwnershipRow | undefined;
    };

export type TenantPlan = Plan<Tenant, TenantAction>;
