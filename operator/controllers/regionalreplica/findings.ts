/**
 * What to say about a RegionalReplica: one small function for each condition, in words for people. Pure.
 */
import type { Finding } from '#kube/conditions.ts';
import { earliestExpiry } from '../../pki/member-secret.ts';
import { podProblem } from './members.ts';
import type { PodCount } from './scale.ts';
import { isGoing, type Snapshot } from './snapshot.ts';

/** False when a StatefulSet of that name belongs to somebody else. */
export const isOurs = ({ replica, owned }: Snapshot): boolean =>
  owned.statefulSet?.metadata.ownerReferences?.some(({ uid }) => uid === replica.metadata.uid) !== false;

/** What the object names that isn't there. */
export function knownFindings(snapshot: Snapshot): Finding[] {
  const { replica, shard, keyspace, region } = snapshot;
  const { spec } = replica;
  const shardGoing = shard !== undefined && isGoing(shard);
  const nameTaken = !isOurs(snapshot);
  return [
    shard !== undefined && !shardGoing
      ? known('ShardKnown', `Shard ${spec.shard} is there`)
      : unknown(
          'ShardKnown',
          shardGoing ? 'ShardDeleted' : 'NoSuchShard',
          shardGoing ? `Shard ${spec.shard} is being deleted` : `there is no Shard ${spec.shard} in this namespace`,
        ),
    ...(shard === undefined
      ? []
      : [
          keyspace !== undefined
            ? known('KeyspaceKnown', `Keyspace ${shard.spec.keyspace} is there`)
            : unknown(
                'KeyspaceKnown',
                'NoSuchKeyspace',
                `Shard ${spec.shard} belongs to Keyspace ${shard.spec.keyspace}, which isn't in this namespace`,
              ),
        ]),
    region !== undefined
      ? known('RegionKnown', `Region ${spec.region} is there`)
      : unknown('RegionKnown', 'NoSuchRegion', `there is no Region ${spec.region} in this namespace`),
    ...(nameTaken
      ? [
          unknown(
            'NameFree',
            'NameTaken',
            `a StatefulSet ${replica.metadata.name} exists that isn't of this RegionalReplica; choose another name`,
          ),
        ]
      : []),
  ];
}

const known = (type: string, message: string): Finding => ({ type, status: 'True', reason: 'Found', message });

const unknown = (type: string, reason: string, message: string): Finding => ({
  type,
  status: 'False',
  reason,
  message,
  warning: true,
});

export function instancesFinding(count: PodCount | undefined): Finding | undefined {
  if (count === undefined) return undefined;
  return count.held === undefined
    ? { type: 'InstancesAsWished', status: 'True', reason: 'AsWished', message: `${count.replicas} wished` }
    : {
        type: 'InstancesAsWished',
        status: 'False',
        reason: count.held.reason,
        message: count.held.message,
        warning: true,
      };
}

export function storageFinding(differs: string | undefined): Finding | undefined {
  return differs === undefined
    ? { type: 'StorageAsWished', status: 'True', reason: 'AsWished', message: 'volumes are as wished' }
    : {
        type: 'StorageAsWished',
        status: 'False',
        reason: 'GrowthNotSupported',
        message: `${differs}; existing volumes are not changed yet`,
        warning: true,
      };
}

export function certificatesFinding({ owned }: Snapshot): Finding | undefined {
  const notAfter = earliestExpiry(owned.tls);
  if (notAfter === undefined) return undefined;
  return {
    type: 'CertificatesValid',
    status: 'True',
    reason: 'Issued',
    // The day is enough: certificates of one Secret may be seconds apart.
    message: `the first ends on ${notAfter.toISOString().slice(0, 10)}; renewed at two thirds of their life`,
  };
}

export function readyFinding(
  { replica, pods, answers }: Snapshot,
  findings: readonly Finding[],
  readyInstances: number,
): Finding {
  const { instances } = replica.spec;
  const blocker = findings.find(
    ({ type, status }) =>
      status === 'False' && ['ShardKnown', 'KeyspaceKnown', 'RegionKnown', 'NameFree'].includes(type),
  );
  if (blocker !== undefined)
    return { type: 'Ready', status: 'False', reason: blocker.reason, message: blocker.message };
  if (readyInstances >= instances)
    return { type: 'Ready', status: 'True', reason: 'AllReady', message: `${readyInstances} of ${instances} ready` };
  const problems = pods.flatMap((pod) => podProblem(pod, answers.get(pod.metadata.name)) ?? []);
  return {
    type: 'Ready',
    status: 'False',
    reason: 'InstancesNotReady',
    message: [`${readyInstances} of ${instances} ready`, ...problems].join('; '),
  };
}
