/** Carries out the actions of a Shard's plan, one at a time, with no decision and no retry of its own. */
import type { OrdersRefusal } from '#core/protocol/orders.ts';
import { sameStatus } from '#kube/conditions.ts';
import { networkPolicies, persistentVolumeClaims, podDisruptionBudgets, pods } from '#kube/kinds.ts';
import { type Keyspace, keyspaces, type Shard, shards } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { AgentAccess } from '../../agents/access.ts';
import type { Applier } from '../../resources/applier.ts';
import type { ActContext, ControllerDeps } from '../../runtime/controller.ts';
import type { Action } from './actions.ts';
import type { ShardMemory } from './memory.ts';

export interface Means {
  readonly deps: ControllerDeps;
  readonly agents: AgentAccess;
  readonly applier: Applier;
  readonly memory: ShardMemory;
}

/** What became of orders that a member didn't take; undefined for everything else. */
export interface Undelivered {
  readonly member: string;
  readonly refusal?: OrdersRefusal;
  readonly why: string;
}

export async function act(action: Action, means: Means, context: ActContext<Shard>): Promise<Undelivered | undefined> {
  const { deps, applier, memory } = means;
  const { cache, object: shard } = context;
  const { namespace, uid } = shard.metadata;
  switch (action.kind) {
    case 'ApplyBudget':
      if (
        !applier.isCurrent(podDisruptionBudgets, action.object, cache.get(podDisruptionBudgets, action.object.metadata))
      )
        await applier.apply(podDisruptionBudgets, action.object);
      return undefined;
    case 'ApplyPolicy':
      if (!applier.isCurrent(networkPolicies, action.object, cache.get(networkPolicies, action.object.metadata)))
        await applier.apply(networkPolicies, action.object);
      return undefined;
    case 'Record': {
      const { authority, membership, history } = action.record;
      await context.recordStatus({
        authority: { ...authority, ...(authority.target && { target: { ...authority.target } }) },
        membership: { ...membership, members: membership.members.map((member) => ({ ...member })) },
        history: history.map((entry) => ({ ...entry })),
        ...(action.systemIdentifier === undefined ? {} : { systemIdentifier: action.systemIdentifier }),
      });
      return undefined;
    }
    case 'SendOrders':
      return sendOrders(action, means, context);
    case 'Handover': {
      const { target, why, journal } = action;
      const written = sameStatus(shard.status?.switchover, journal)
        ? shard
        : await context.recordStatus({ switchover: journal });
      deps.takeovers.handOver(written, { target, why });
      return undefined;
    }
    case 'ClearAnnotation':
      // By version: a value that was written meanwhile is another wish.
      await deps.kube.of(shards).patch(shard.metadata, {
        metadata: {
          resourceVersion: shard.metadata.resourceVersion,
          annotations: { [action.annotation]: null },
        },
      });
      return undefined;
    case 'NotePosition':
      memory.note(uid, action.noted);
      return undefined;
    case 'ReplacePod':
      // By uid: the pod that was seen, never the one that has taken its name since.
      await deps.kube.of(pods).delete({ namespace, name: action.name }, { preconditions: { uid: action.uid } });
      return undefined;
    case 'DeleteClaim':
      await deps.kube
        .of(persistentVolumeClaims)
        .delete({ namespace, name: action.name }, { preconditions: { uid: action.uid } });
      return undefined;
    default:
      return action satisfies never;
  }
}

async function sendOrders(
  action: Extract<Action, { kind: 'SendOrders' }>,
  { deps, agents }: Means,
  { cache, object: shard, log }: ActContext<Shard>,
): Promise<Undelivered | undefined> {
  const { namespace = '' } = shard.metadata;
  const keyspace: Stored<Keyspace> | undefined = cache.get(keyspaces, { namespace, name: shard.spec.keyspace });
  const { member, address, orders } = action;
  if (keyspace === undefined) return { member, why: 'its Keyspace is gone' };
  const leaderTerm = deps.leaderTerm();
  const sequence = agents.sequence.next(`${orders.shard.uid}/${member}`, leaderTerm, action.taken, Date.now());
  const answer = await agents.client.order(
    { namespace, keyspace: shard.spec.keyspace, member, address },
    await agents.credentials.of(keyspace),
    { ...orders, leaderTerm, sequence },
  );
  const { role, epoch, generation } = orders;
  switch (answer.kind) {
    case 'taken':
      log.info({ member, role, epoch, generation, sequence }, 'orders taken');
      return undefined;
    case 'refused':
      log.warn({ member, role, epoch, generation, refusal: answer.refusal }, 'orders refused');
      return { member, refusal: answer.refusal, why: `${answer.refusal.code}: ${answer.refusal.message}` };
    case 'unknown':
      log.info({ member, role, epoch, generation, why: answer.why }, 'orders not answered');
      return { member, why: answer.why };
    default:
      return answer satisfies never;
  }
}
