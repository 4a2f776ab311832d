/**
 * What a round of a Shard does about the record: a swap of it, or what everybody is ordered to work by while it stands.
 * Made by `first-start.ts` or `membership.ts`, by the state of the record; `plan.ts` puts the rest around it.
 */
import type { MembershipChange } from '#core/authority/membership-change.ts';
import type { Finding } from '#kube/conditions.ts';
import type { PlannedEvent } from '../../runtime/controller.ts';
import type { Action } from './actions.ts';
import type { NotedPosition } from './memory.ts';

export interface Step {
  readonly swap?: Extract<Action, { kind: 'Record' }>;
  readonly note?: NotedPosition | undefined;
  readonly event?: PlannedEvent;
  readonly initialised: Finding;
  readonly change?: MembershipChange | undefined;
  /** Why the membership isn't as wished though nothing is under way. */
  readonly held?: string | undefined;
}
