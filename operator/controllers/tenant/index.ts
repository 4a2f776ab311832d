/**
 * The tenant controller: places each Tenant on a shard, once, has that shard own it, and lets go of it in the end.
 * Leaves moves to TenantMove, limits to the routers, and the schema that ownership rows live in to the keyspace controller.
 */
import { protectFinalizer } from '#core/names.ts';
import { isTrue } from '#kube/conditions.ts';
import { secrets } from '#kube/kinds.ts';
import { keyspaces, regionalReplicas, shards, type Tenant, tenants } from '#kube/meridian.ts';
import { keyOf, type ObjectKey, type Stored } from '#kube/objects.ts';
import { type Cache, type Controller, type ControllerDeps, watch } from '#operator/runtime/controller.ts';
import { TenantActor } from './act.ts';
import type { TenantAction } from './actions.ts';
import { observeTenant } from './observe.ts';
import { concludeTenant } from './ownership.ts';
import { planTenant } from './plan.ts';
import type { TenantSnapshot } from './snapshot.ts';

export function createTenantController(_deps: ControllerDeps): Controller<Tenant, TenantSnapshot, TenantAction> {
  const actor = new TenantActor();
  return {
    type: tenants,
    // The record of authority is compared and swapped.
    readsFresh: true,
    finalizer: protectFinalizer,
    // Many, and each mostly waits for the API server.
    concurrency: 8,
    watches: [
      // One with the same key: it may have had the key, or may get it now.
      watch(tenants, (changed, cache) =>
        tenantsOf(
          cache,
          changed.metadata.namespace,
          (tenant) =>
            tenant.metadata.uid !== changed.metadata.uid &&
            tenant.spec.keyspace === changed.spec.keyspace &&
            tenant.spec.key === changed.spec.key,
        ),
      ),
      watch(keyspaces, (keyspace, cache) =>
        tenantsOf(
          cache,
          keyspace.metadata.namespace,
          (tenant) => tenant.spec.keyspace === keyspace.metadata.name && isUnsettled(tenant),
        ),
      ),
      watch(shards, (shard, cache) =>
        tenantsOf(
          cache,
          shard.metadata.namespace,
          (tenant) => tenant.spec.keyspace === shard.spec.keyspace && isUnsettled(tenant),
        ),
      ),
      watch(regionalReplicas, (replica, cache) =>
        tenantsOf(
          cache,
          replica.metadata.namespace,
          (tenant) =>
            isUnsettled(tenant) ||
            (tenant.spec.allowedRegions !== undefined && tenant.status?.authority?.shard === replica.spec.shard),
        ),
      ),
      // Read from the cache only: the operator's certificate.
      watch(secrets, () => []),
    ],
    observe: (tenant, context) => observeTenant(tenant, context, actor),
    plan: planTenant,
    act: (action, context) => actor.act(action, context),
    conclude: (snapshot, plan, results) => concludeTenant(snapshot, plan, results),
    describe: describeAction,
  };
}

const tenantsOf = (
  cache: Cache,
  namespace: string | undefined,
  isMeant: (tenant: Stored<Tenant>) => boolean,
): readonly ObjectKey[] =>
  cache
    .list(tenants, { namespace })
    .filter(isMeant)
    .map((tenant) => keyOf(tenant));

/**
 * Waits for something: what is settled isn't looked at again for each change of its shard, since there may be very many. A change
 * that matters to those (the shard is gone, or has another past) is seen when everything is looked at again.
 */
const isUnsettled = (tenant: Stored<Tenant>): boolean =>
  tenant.metadata.deletionTimestamp !== undefined || !isTrue(tenant.status?.conditions, 'Ready');

function describeAction(action: TenantAction): string {
  switch (action.kind) {
    case 'place':
      return `place on shard ${action.shard}`;
    case 'own':
      return `write the ownership row on shard ${action.access.shard}`;
    case 'disown':
      return `take the ownership row off shard ${action.access.shard}`;
    case 'clean':
      return `delete the rows on shard ${action.access.shard}`;
  }
}
