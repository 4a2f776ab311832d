/**
 * One operator process in the world: observes, plans with the real code, acts, and may die between any two actions.
 * What it remembers is lost with it.
 */
import { type Finding, sameStatus, setConditions } from '#kube/conditions.ts';
import type { Keyspace } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { OrderSequence } from '#operator/agents/sequence.ts';
import type { Action } from '#operator/controllers/shard/actions.ts';
import { awayNames } from '#operator/controllers/shard/members.ts';
import { ShardMemory } from '#operator/controllers/shard/memory.ts';
import { plan } from '#operator/controllers/shard/plan.ts';
import type { Snapshot } from '#operator/controllers/shard/snapshot.ts';
import { shardUid, type World } from './world.ts';

export const keyspace: Stored<Keyspace> = {
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'Keyspace',
  metadata: { namespace: 'test', name: 'shop', uid: 'ks', resourceVersion: '1', creationTimestamp: '' },
  spec: {} as Keyspace['spec'],
};

export class Operator {
  readonly #world: World;
  readonly #leaderTerm: number;
  readonly #memory = new ShardMemory();
  readonly #sequence = new OrderSequence();

  constructor(world: World, leaderTerm: number) {
    this.#world = world;
    this.#leaderTerm = leaderTerm;
  }

  observe(): Snapshot {
    const world = this.#world;
    const views = this.#memory.recall(shardUid, world.views());
    const record = world.record;
    return {
      shard: world.shard,
      record,
      keyspace,
      regions: world.regions,
      replicasWithoutRegion: [],
      views,
      statefulSets: [],
      claims: [],
      ownedTenants: [],
      leaderTerm: this.#leaderTerm,
      noted: this.#memory.noted(shardUid),
      awayMs: this.#memory.away(shardUid, awayNames(record, views), world.now),
      takeover: undefined,
      isOutdated: false,
      isDrainTurn: true,
      lagMayChange: this.#memory.lagMayChange(shardUid, world.shard.status?.summary?.lag, world.now),
      operatorNamespace: 'meridian-system',
    };
  }

  /**
   * A whole round on what was seen. @param stopAfter Actions after which the process dies; all when absent.
   * @returns False when the round ended early.
   */
  round(snapshot = this.observe(), stopAfter = Number.POSITIVE_INFINITY): boolean {
    const planned = plan(snapshot, new Date(this.#world.now));
    let version = snapshot.shard.metadata.resourceVersion;
    for (const [index, action] of planned.actions.entries()) {
      if (index >= stopAfter) return false;
      const after = this.#act(action, version);
      if (after === undefined) return false;
      version = after;
    }
    if (version !== this.#world.shard.metadata.resourceVersion) return false;
    if (planned.status !== undefined) this.#conclude(planned.status, planned.conditions ?? []);
    return true;
  }

  /** The one write of the status, skipped where nothing changed. What is recorded stays as it was recorded. */
  #conclude(planned: NonNullable<ReturnType<typeof plan>['status']>, findings: readonly Finding[]): void {
    const world = this.#world;
    const before = world.shard.status;
    const { authority, membership, history, systemIdentifier } = before ?? {};
    const conditions = setConditions(before?.conditions ?? [], findings, { now: new Date(world.now) });
    const status = { ...before, ...planned, authority, membership, history, systemIdentifier, conditions };
    if (!sameStatus(before, status)) world.write(status);
  }

  /** The version to go on with; undefined after a lost swap. */
  #act(action: Action, version: string): string | undefined {
    const world = this.#world;
    switch (action.kind) {
      case 'Record':
        return world.swap(version, action.record) ? world.shard.metadata.resourceVersion : undefined;
      case 'SendOrders':
        world.order(action.member, {
          ...action.orders,
          leaderTerm: this.#leaderTerm,
          sequence: this.#sequence.next(action.member, this.#leaderTerm, action.taken, world.now),
        });
        return version;
      case 'NotePosition':
        this.#memory.note(shardUid, action.noted);
        return version;
      case 'ReplacePod':
        world.replacePod(action.name, action.uid);
        return version;
      case 'Handover':
        if (!sameStatus(world.shard.status?.switchover, action.journal)) {
          if (version !== world.shard.metadata.resourceVersion) return undefined;
          world.write({ switchover: action.journal });
        }
        this.#world.asked.push(action.target);
        return world.shard.metadata.resourceVersion;
      case 'ClearAnnotation':
        if (version !== world.shard.metadata.resourceVersion) return undefined;
        world.annotate(action.annotation, undefined);
        return world.shard.metadata.resourceVersion;
      case 'ApplyBudget':
      case 'ApplyPolicy':
      case 'DeleteClaim':
        return version;
      default:
        return action satisfies never;
    }
  }
}
