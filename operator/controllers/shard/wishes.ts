/** What follows from a snapshot for everybody at once: the state of a rolling change, and all orders. Pure. */
import { type MembershipChange, settingsDuring } from '#core/authority/membership-change.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { databaseOf } from '#crds/index.ts';
import { isCounted, isOpenPrimary, primaryStatus, regionIn } from './members.ts';
import { type WishedOrders, wishedOrders } from './orders.ts';
import { nonceOf, nonceOfParameters, planRollout, type Rollout } from './rollout.ts';
import type { Snapshot } from './snapshot.ts';

export function ordersDuring(
  snapshot: Snapshot,
  record: AuthorityRecord,
  change: MembershipChange | undefined,
  rollout: Rollout,
): WishedOrders[] {
  const { shard, keyspace, views } = snapshot;
  const { namespace = '', name: shardName, uid } = shard.metadata;
  const { parameters } = shard.spec.postgres;
  const { scope } = shard.spec.durability;
  if (keyspace === undefined) return [];
  const target = nonceOfParameters(parameters);
  return wishedOrders({
    shard: {
      namespace,
      name: shardName,
      uid,
      keyspace: shard.spec.keyspace,
      database: databaseOf({ metadata: keyspace.metadata, spec: keyspace.spec }),
    },
    record,
    views,
    settings: settingsDuring(record, change, scope, regionIn(views)),
    recorded: settingsDuring(record, undefined, scope, regionIn(views)),
    parameters,
    nonceOf: (view) => nonceOf(view, rollout, target),
  });
}

export function rolloutOf({ shard, record, views }: Snapshot): Rollout {
  const primary = record && primaryStatus(record, views);
  return planRollout({
    views,
    primary: record?.authority.member,
    primaryIsOpen: record !== undefined && isOpenPrimary(record, primary),
    isStreaming: ({ name: member }) =>
      primary?.standbys.some((standby) => standby.name === member && standby.state === 'streaming') === true,
    isCounted: (view) => isCounted(record, view),
    targetNonce: nonceOfParameters(shard.spec.postgres.parameters),
  });
}
