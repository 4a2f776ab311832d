/**
 * What an agent may promise, and what its promise lets it grant: the rules of the follower's side of every lease and fence.
 * Pure. The promise must be on disk before anything that it allows is done, and before its answer is sent.
 * Invariants (docs/design.md, section 4, "The promise"; traps A11, A20 to A22): the epoch never goes down; at one epoch there is
 * one grantee; whoever has promised an epoch helps nobody at a lower one, across restarts.
 */
import type { MemberIdentity } from '../identity.ts';
import { sameMember } from './record.ts';

/** The part of the persisted promise that decides. */
export interface PromisedEpoch {
  /** Empty until the first orders. */
  readonly shardUid: string;
  /** 0 before the first. */
  readonly epoch: number;
  /** `name/incarnation`; empty while the epoch is promised to nobody yet. */
  readonly grantee: string;
  readonly generation: number;
}

export type FenceDecision =
  /** `isNew` is false for the same fence again: nothing to write, everything else to be shown again. */
  | { readonly kind: 'Fence'; readonly promise: PromisedEpoch; readonly isNew: boolean }
  | {
      readonly kind: 'Refuse';
      readonly code: 'WrongShard' | 'WrongMember' | 'WrongIncarnation' | 'Promised' | 'Active';
      readonly message: string;
    };

/** Whether a member lets itself be fenced at an epoch. */
export function decideFence(
  question: { readonly shardUid: string; readonly member: MemberIdentity; readonly epoch: number },
  self: MemberIdentity,
  promise: PromisedEpoch,
): FenceDecision {
  const { epoch, member, shardUid } = question;
  if (promise.shardUid === '') return refuse('WrongShard', 'this member has no shard yet');
  if (promise.shardUid !== shardUid)
    return refuse('WrongShard', `this volume belongs to the shard with UID ${promise.shardUid}, not ${shardUid}`);
  if (member.name !== self.name) return refuse('WrongMember', `this is ${self.name}, not ${member.name}`);
  if (!sameMember(member, self))
    return refuse('WrongIncarnation', `this is incarnation ${self.incarnation}, not ${member.incarnation}`);
  if (epoch < promise.epoch) return refuse('Promised', `epoch ${promise.epoch} is promised already`);
  if (epoch === promise.epoch && promise.grantee !== '')
    return refuse('Active', `epoch ${epoch} belongs to ${promise.grantee} already: only a higher one ends it`);
  return {
    kind: 'Fence',
    promise: { ...promise, epoch, grantee: '', generation: epoch === promise.epoch ? promise.generation : 0 },
    isNew: epoch !== promise.epoch,
  };
}

/** Whether a lease may be granted: to exactly the one that the epoch was promised to, at exactly that epoch. */
export const mayGrant = (
  promise: Pick<PromisedEpoch, 'epoch' | 'grantee'>,
  request: { readonly epoch: number /** `name/incarnation` */; readonly from: string },
): boolean => request.from !== '' && request.epoch === promise.epoch && request.from === promise.grantee;

/** Whether a tunnel towards, or from, a peer that stands at this epoch may be open (traps A3, B13). */
export const mayStream = (promise: Pick<PromisedEpoch, 'epoch'>, epoch: number): boolean => epoch >= promise.epoch;

/** Whether a member may be, or stay, primary by its own promise: nobody else's and no later epoch is promised. */
export const mayLead = (promise: Pick<PromisedEpoch, 'epoch' | 'grantee'>, epoch: number, self: string): boolean =>
  epoch === promise.epoch && promise.grantee === self;

const refuse = (code: Extract<FenceDecision, { kind: 'Refuse' }>['code'], message: string): FenceDecision => ({
  kind: 'Refuse',
  code,
  message,
});
