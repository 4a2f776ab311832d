/** What follows from a snapshot for everybody at once: the state of a rolling change, and all orders. Pure. */
import { leaseSettings } from '#core/authority/lease.ts';
import { type MembershipChange, settingsDuring } from '#core/authority/membership-change.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { lacksFollowers, mayRewind } from '#core/authority/rejoin.ts';
import { databaseOf } from '#crds/index.ts';
import type { Keyspace, Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { fencedNames } from './fencing.ts';
import {
  identityOf,
  isCounted,
  isOpeningPrimary,
  isOpenPrimary,
  type MemberView,
  primaryStatus,
  regionIn,
  rejoiningMembers,
} from './members.ts';
import { type OrdersInput, type WishedOrders, wishedOrders } from './orders.ts';
import { nonceOf, nonceOfParameters, planRollout, type Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';

export function ordersDuring(
  snapshot: Snapshot,
  record: AuthorityRecord,
  change: MembershipChange | undefined,
  rollout: Rollout,
): WishedOrders[] {
  const { shard, keyspace, views, awayMs } = snapshot;
  if (keyspace === undefined) return [];
  const target = nonceOfParameters(shard.spec.postgres.parameters);
  return wishedOrders({
    ...ordersInput({ shard, keyspace, record, views, awayMs, change }),
    nonceOf: (view) => nonceOf(view, rollout, target),
  });
}

/** All that orders rest on but the restarts. */
export function ordersInput(from: {
  readonly shard: Stored<Shard>;
  readonly keyspace: Stored<Keyspace>;
  readonly record: AuthorityRecord;
  readonly views: readonly MemberView[];
  /** By name. */
  readonly awayMs: ReadonlyMap<string, number>;
  readonly change: MembershipChange | undefined;
}): Omit<OrdersInput, 'nonceOf'> {
  const { shard, keyspace, record, views, awayMs, change } = from;
  const { namespace = '', name, uid } = shard.metadata;
  const { scope } = shard.spec.durability;
  const primaryIsOpen = isOpenPrimary(record, primaryStatus(record, views));
  const rejoining = rejoiningMembers(record, views, awayMs, scope);
  return {
    shard: {
      namespace,
      name,
      uid,
      keyspace: shard.spec.keyspace,
      database: databaseOf({ metadata: keyspace.metadata, spec: keyspace.spec }),
    },
    record,
    views,
    settings: settingsDuring(record, change, scope, regionIn(views)),
    lease: leaseSettings(record, change),
    recorded: settingsDuring(record, undefined, scope, regionIn(views)),
    parameters: shard.spec.postgres.parameters,
    fenced: fencedNames(shard),
    mayRewind: (view) => {
      const member = identityOf(view);
      return member !== undefined && mayRewind(record, member, rejoining, primaryIsOpen);
    },
  };
}

export function rolloutOf({ shard, record, views, awayMs }: Snapshot): Rollout {
  const primary = record && primaryStatus(record, views);
  return planRollout({
    views,
    primary: record?.authority.member,
    primaryIsOpen: record !== undefined && isOpenPrimary(record, primary),
    gateWaitsForMore:
      record !== undefined &&
      isOpeningPrimary(record, primary) &&
      lacksFollowers(record, rejoiningMembers(record, views, awayMs, shard.spec.durability.scope)),
    isStreaming: ({ name: member }) =>
      primary?.standbys.some((standby) => standby.name === member && standby.state === 'streaming') === true,
    isCounted: (view) => isCounted(record, view),
    targetNonce: nonceOfParameters(shard.spec.postgres.parameters),
  });
}
