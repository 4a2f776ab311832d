/**
 * The status of a Shard: the record of authority, and what the operator says about it for people.
 * Invariants: `authority`, `membership` and `history` change by compare-and-swap only (docs/design.md, section 4), and the API
 * server itself refuses a change that takes an epoch or a generation back, or gives one of them another meaning: no hand and
 * no old copy of the object can do that while the API server's memory is sound.
 * Everything beside the record may be wrong or missing without harm. What changes all the time is here in a coarse form only
 * (`summary`), so that the record is seldom written.
 */
import { z } from 'zod';
import { atomicListOf, mapOf } from './list.ts';
import { incarnation, nameLimits, statusBase, timestamp } from './object.ts';
import { type Rule, ruled } from './rule.ts';

const count = () => z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const epochOf = (description: string) => count().min(1).describe(description);
const memberNameField = () => z.string().min(1).max(63);
const sentence = (most: number) => z.string().max(most);
const lsn = (description: string) =>
  z
    .string()
    .max(17)
    .regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/)
    .describe(description);

/** Transition rules: a single object can't break them. */
const onlyForward = <T>(cel: string, message: string): Rule<T> => ({ cel, message });

export const memberIdentity = z.strictObject({
  name: memberNameField().describe('Name of the member.'),
  incarnation: incarnation(),
});

export const shardAuthorityStates = ['Initialising', 'Active', 'Stopping'] as const;

export const shardAuthority = ruled(
  z.strictObject({
    epoch: epochOf('Grows exactly when the authority changes; 1 at first.'),
    timeline: z.int().min(1).max(4_294_967_295).describe('The Postgres timeline on which this authority writes.'),
    member: memberNameField().describe('The one member that may accept writes.'),
    incarnation: incarnation(),
    region: z.string().min(1).max(nameLimits.region).describe('The region of that member.'),
    since: timestamp('When the authority was decided.'),
    state: z
      .enum(shardAuthorityStates)
      .describe(
        'Initialising: decided, not yet running. Active: decided; whether it is open for clients is the condition PrimaryAvailable. Stopping: about to be handed over.',
      ),
    target: memberIdentity.optional().describe('While it stops: the member that it is handed over to.'),
  }),
  onlyForward(
    'self.epoch >= oldSelf.epoch',
    'status.authority.epoch never goes back: members have promised the higher one',
  ),
  onlyForward(
    'self.epoch > oldSelf.epoch || (self.member == oldSelf.member && self.incarnation == oldSelf.incarnation && self.timeline == oldSelf.timeline)',
    'status.authority names another member or timeline only at a higher epoch: ask for a switchover instead',
  ),
);

export const shardMembership = ruled(
  z.strictObject({
    generation: epochOf('Grows with every change of the membership; 1 at first.'),
    members: mapOf(memberIdentity, ['name', 'incarnation'], 64).describe(
      'Those who count: the primary, and the followers whose acknowledgements do. A member that has got a new volume may ' +
        'stand here twice for a while, as who it was and as who it is.',
    ),
    acknowledgements: z.int().min(0).max(8).describe('k as it holds now; the wish is in spec.durability.'),
  }),
  onlyForward('self.generation >= oldSelf.generation', 'status.membership.generation never goes back'),
  onlyForward(
    'self.generation > oldSelf.generation || (self.acknowledgements == oldSelf.acknowledgements && self.members == oldSelf.members)',
    'status.membership changes only with a higher generation: change RegionalReplicas or spec.durability instead',
  ),
);

export const historyEntry = z.strictObject({
  epoch: epochOf('The epoch that began.'),
  timeline: z.int().min(1).max(4_294_967_295).describe('Its Postgres timeline.'),
  member: memberNameField().describe('Its primary.'),
  forkLsn: lsn('The position in the write-ahead log at which it left the epoch before; 0/0 for the first.'),
  parent: z
    .int()
    .min(1)
    .max(4_294_967_295)
    .optional()
    .describe('The timeline that it continues; left out: that of the entry before.'),
});

const summary = z.strictObject({
  quorum: z.string().max(16).describe('Followers of the record that acknowledge now, of all of them, such as 2/2.'),
  lag: z
    .string()
    .max(16)
    .describe(
      'How far the slowest follower of the record is behind, coarsely: the least of 1MiB, 16MiB, 256MiB, 4GiB that it is ' +
        'below, or more than 4GiB; unknown while the primary does not say. Changes every 10 s at most; exact lag is in the metrics.',
    ),
  followers: sentence(1024).describe('Every follower by name, with what it does where that is anything but following.'),
});

const preferred = z.strictObject({
  region: z.string().min(1).max(nameLimits.region).describe('The value of spec.primaryRegion.'),
  epoch: epochOf('The epoch in which it was last looked at.'),
});

export const switchoverReasons = [
  'Annotation',
  'Leaving',
  'RegionDrained',
  'PreferredRegion',
  'VolumeGoing',
  'Rollout',
] as const;
export const switchoverOutcomes = ['Refused', 'Done', 'Undone', 'Overtaken', 'GivenUp'] as const;

const switchover = z.strictObject({
  reason: z.enum(switchoverReasons).describe('What asked for it.'),
  request: sentence(256).optional().describe('The value of the annotation meridian.db/switchover that is served.'),
  from: memberNameField().describe('The primary that was to hand over.'),
  target: memberIdentity.optional().describe('The member that was chosen; none where it was refused.'),
  epoch: epochOf('The epoch that was to end.'),
  at: timestamp('When it was asked for, or refused.'),
  failures: z.int().min(0).max(1000).describe('How often in a row it did not come about; the next try waits longer.'),
  outcome: z
    .enum(switchoverOutcomes)
    .optional()
    .describe(
      'Absent while it goes on. Refused: nothing was begun. Done. Undone: the same primary leads again, at a new epoch. ' +
        'Overtaken: authority went elsewhere meanwhile. GivenUp: it could not begin in time.',
    ),
  refusal: z.string().max(64).optional().describe('Why it was refused, in one CamelCase word.'),
  message: sentence(1024).optional().describe('Why, in a sentence.'),
});

const lastFailover = z.strictObject({
  epoch: epochOf('The epoch that began with it.'),
  from: memberNameField().describe('The primary before.'),
  fromIncarnation: incarnation(),
  to: memberNameField().describe('The primary after.'),
  reason: sentence(512).describe('Why.'),
  at: timestamp('When it was decided.'),
  acknowledgements: z.int().min(0).max(8).describe('k at that time: with 1 or more no acknowledged commit was lost.'),
  lostFrom: lsn('Where the log of the primary before is not that of the primary after any more.').optional(),
  lostTo: lsn(
    'The end of what the primary before is known to have had: exactly, once it is back; before that the last that was heard.',
  ).optional(),
  exact: z
    .boolean()
    .describe('Whether the primary before is back, so that this is exactly what it had and the shard has not.'),
  transactions: z.int().min(0).max(Number.MAX_SAFE_INTEGER).optional().describe('How many transactions those are.'),
  keptIn: sentence(256)
    .optional()
    .describe("Where their log is kept, on the volume of the primary before (its member's pod)."),
});

export const shardStatus = ruled(
  z.strictObject({
    ...statusBase,
    authority: shardAuthority.optional().describe('The right to accept writes, and who has it.'),
    membership: shardMembership.optional().describe('Whose acknowledgements, promises and grants count.'),
    history: atomicListOf(historyEntry, 1000)
      .optional()
      .describe('Every epoch so far, oldest first: decides what a position of an older epoch means.'),
    systemIdentifier: z
      .string()
      .max(20)
      .regex(/^[0-9]{1,20}$/)
      .optional()
      .describe('The system identifier of the Postgres cluster, as initdb made it.'),
    summary: summary.optional().describe('What `kubectl get` shows of the followers; coarse, for people.'),
    preferred: preferred
      .optional()
      .describe(
        'The preferred region that was last acted upon: only a spec.primaryRegion that is another one asks for a switchover, ' +
          'and only within the epoch in which it was changed. So nothing fails back by itself.',
      ),
    switchover: switchover
      .optional()
      .describe('The last planned switchover that was asked for, and what became of it.'),
    lastFailover: lastFailover
      .optional()
      .describe('The last unplanned change of authority, with what it lost where acknowledgements were 0.'),
  }),
  onlyForward(
    '!has(oldSelf.authority) || has(self.authority)',
    'status.authority is never taken away: delete the Shard instead',
  ),
  onlyForward(
    '!has(oldSelf.membership) || has(self.membership)',
    'status.membership is never taken away: delete the Shard instead',
  ),
  onlyForward(
    '!has(oldSelf.history) || (has(self.history) && self.history.size() >= oldSelf.history.size())',
    'status.history never gets shorter: it says which log is whose',
  ),
).describe('The record of authority, and what there is to say about it. Written by the operator only.');

export type ShardStatus = z.output<typeof shardStatus>;
export type ShardAuthority = z.output<typeof shardAuthority>;
export type ShardMembership = z.output<typeof shardMembership>;
export type ShardHistoryEntry = z.output<typeof historyEntry>;
export type ShardSwitchover = z.output<typeof switchover>;
export type ShardLastFailover = z.output<typeof lastFailover>;
export type ShardSummary = z.output<typeof summary>;
