/**
 * Planted bugs: the rules with one of them broken, each as somebody might break it who reads a sentence of the design loosely.
 * The simulator must find every one of them; that is what shows that it looks (test/simulate/plants.test.ts).
 * Made by wrapping: what goes into a decision, or comes out of it, is changed; `core/` knows nothing of it.
 */

import { granteeOf } from '#agent/orders/decide.ts';
import { firstPromise, type PromiseRecord } from '#agent/promise/record.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { FenceOutcome, TakeoverAction, TakeoverInput } from '#core/authority/takeover.ts';
import type { RunOptions } from './random.ts';
import { type Rules, realRules } from './rules.ts';

export interface Plant {
  readonly name: string;
  readonly breaks: string;
  readonly rules: Rules;
  /** Members and k that it shows with. */
  readonly shapes: readonly (readonly [number, number])[];
  /** The k that is wanted, where it isn't the one that there is. */
  readonly wish?: number;
  /** What must happen often for it to show soon. */
  readonly emphasis?: NonNullable<RunOptions['emphasis']>;
}

const withTakeover = (decideTakeover: (input: TakeoverInput) => TakeoverAction): Rules => ({
  ...realRules,
  decideTakeover,
});

/** The fence answers of an attempt, changed. */
const fencesOf = (
  input: TakeoverInput,
  change: (fenced: Extract<FenceOutcome, { kind: 'Fenced' }>['fenced'], name: string) => typeof fenced,
): TakeoverInput['fences'] =>
  new Map(
    [...input.fences].map(([name, outcome]) => [
      name,
      outcome.kind === 'Fenced' ? { ...outcome, fenced: change(outcome.fenced, name) } : outcome,
    ]),
  );

const withAcknowledgements = (record: AuthorityRecord, acknowledgements: number): AuthorityRecord => ({
  ...record,
  membership: { ...record.membership, acknowledgements },
});

export const plants: readonly Plant[] = [
  {
    name: 'wait',
    breaks: 'the wait for the last grant to run out',
    rules: withTakeover((input) =>
      realRules.decideTakeover({
        ...input,
        fences: fencesOf(input, (fenced) => ({ ...fenced, leaseRemainingMs: 0 })),
      }),
    ),
    shapes: [
      [3, 1],
      [4, 1],
    ],
  },
  {
    name: 'fence-size',
    breaks: 'the size of the fence set: one member fewer is taken for enough',
    rules: withTakeover((input) => {
      const { acknowledgements } = input.record.membership;
      const action = realRules.decideTakeover({
        ...input,
        record: withAcknowledgements(input.record, acknowledgements + 1),
      });
      return 'record' in action ? { ...action, record: withAcknowledgements(action.record, acknowledgements) } : action;
    }),
    shapes: [
      [3, 1],
      [4, 1],
      [5, 2],
    ],
  },
  {
    name: 'promise-persistence',
    breaks: 'the promise on disk: a restarted agent knows only the orders that it took',
    rules: {
      ...realRules,
      promiseOnDisk: (promise, orders): PromiseRecord =>
        orders === undefined
          ? { ...firstPromise(promise.incarnation), shardUid: promise.shardUid }
          : { ...promise, epoch: orders.epoch, grantee: granteeOf(orders), generation: orders.generation },
    },
    emphasis: { crash: 4, suspect: 4, restart: 3, wipe: 0, isolate: 0.3 },
    shapes: [
      [3, 1],
      [4, 1],
    ],
  },
  {
    name: 'start-gate',
    breaks: 'the start gate: a member opens because its orders once said primary',
    rules: {
      ...realRules,
      whyNotStart: () => undefined,
      whyShut: (opening) =>
        realRules.whyShut({ ...opening, confirmedEpoch: opening.ordered.epoch, leaseRemainingMs: null }),
      expiryOf: () => null,
    },
    shapes: [
      [2, 0],
      [3, 0],
      [3, 1],
    ],
  },
  {
    name: 'membership-order',
    breaks: 'the order of a membership change: the record first, Postgres after',
    rules: { ...realRules, recordGoesFirst: () => true, isSafeToRecord: () => true },
    emphasis: {
      leave: 20,
      changeMembership: 4,
      suspect: 3,
      write: 5,
      stream: 5,
      acknowledge: 5,
      beat: 0.2,
      live: 0.3,
      rush: 0.4,
      wipe: 0,
    },
    shapes: [
      [4, 1],
      [4, 2],
      [5, 2],
    ],
  },
  {
    name: 'chosen-before-fence',
    breaks: 'the order of fence and choice: positions are those from before the fence',
    rules: withTakeover((input) =>
      realRules.decideTakeover({
        ...input,
        fences: fencesOf(input, (fenced, name) => {
          const ping = input.pings.get(name) as { position?: { timeline: number; lsn: string } | null } | undefined;
          return ping?.position === undefined ? fenced : { ...fenced, position: ping.position };
        }),
      }),
    ),
    emphasis: { suspect: 4, step: 4, rush: 0.3, stream: 3, write: 3, acknowledge: 3, wipe: 0 },
    shapes: [
      [3, 1],
      [4, 1],
    ],
  },
  {
    name: 'old-primary-dropped',
    breaks: 'the old primary in the record until the new gate has opened: the deciding swap drops it (B1)',
    rules: withTakeover((input) => {
      const action = realRules.decideTakeover(input);
      if (action.kind !== 'Decide' || action.record.authority.member === input.record.authority.member) return action;
      const { members, acknowledgements } = action.record.membership;
      if (members.length - 1 < acknowledgements + 1) return action;
      return {
        ...action,
        record: {
          ...action.record,
          membership: {
            ...action.record.membership,
            members: members.filter(({ name }) => name !== input.record.authority.member),
          },
        },
      };
    }),
    emphasis: { suspect: 4, wipe: 4, rush: 2 },
    shapes: [
      [3, 1],
      [4, 1],
      [5, 2],
    ],
  },
  {
    name: 'opening-gate',
    breaks: 'the opening gate: opened without a row of this opening on k followers (B2)',
    rules: { ...realRules, whyShut: (opening) => realRules.whyShut({ ...opening, row: 'Committed' }) },
    shapes: [
      [3, 1],
      [5, 2],
    ],
  },
  {
    name: 'incarnations',
    breaks: 'incarnations: an emptied volume is taken for the member that it was (A2)',
    rules: { ...realRules, incarnationOf: (name) => name },
    shapes: [
      [3, 1],
      [4, 1],
      [4, 2],
    ],
  },
  {
    name: 'position-epoch',
    breaks: "the position's epoch: logs are compared by LSN alone (A4, B7)",
    rules: withTakeover((input) =>
      realRules.decideTakeover({
        ...input,
        fences: fencesOf(input, (fenced) => ({
          ...fenced,
          position: fenced.position && { ...fenced.position, timeline: input.record.authority.timeline },
        })),
      }),
    ),
    shapes: [
      [3, 1],
      [4, 1],
      [5, 2],
    ],
  },
  {
    name: 'forgotten-grants',
    breaks: 'the reckoning with what a restarted agent may have granted (A7)',
    rules: {
      ...realRules,
      grantRemainingMs: (grantor) => realRules.grantRemainingMs({ ...grantor, longestLeaseMs: 0 }),
    },
    emphasis: {
      suspect: 5,
      crash: 3,
      restart: 4,
      rush: 3,
      cut: 5,
      mendAll: 0.2,
      ask: 4,
      tick: 0.3,
      live: 0.5,
      wipe: 0,
    },
    shapes: [
      [3, 1],
      [4, 1],
    ],
  },
  {
    name: 'lease-set',
    breaks: 'one object for lease and commits: whoever once granted goes on counting (A8)',
    rules: {
      ...realRules,
      leaseSettings: (record, _change) => ({
        ...realRules.leaseSettings(record),
        members: ['a', 'b', 'c', 'd', 'e']
          .filter((name) => name !== record.authority.member)
          .map((name) => ({ name, incarnation: `${name}1` })),
      }),
    },
    emphasis: { suspect: 4, leave: 10, rush: 3, tick: 0.3 },
    shapes: [
      [4, 1],
      [5, 1],
    ],
  },
  {
    name: 'stream-resumes',
    breaks: 'the WAL source as a function of the promise: a fenced follower goes on streaming (A3)',
    rules: { ...realRules, mayStream: () => true, isWithinPromise: () => true },
    shapes: [
      [3, 1],
      [4, 1],
    ],
  },
  {
    name: 'swap-with-reread',
    breaks:
      'the version of the deciding swap: that of a fresh read, not of the one that the fence was computed from (A10)',
    rules: { ...realRules, versionForPut: (_attempted, newest) => newest },
    shapes: [
      [3, 1],
      [4, 1],
    ],
  },
  {
    name: 'lease-after-record',
    breaks:
      'the lease before the record where k = 0: a new member may be fenced alone before its grant is needed (A14, B5)',
    rules: {
      ...realRules,
      recordGoesFirst: (change) => change.kind === 'Add' || change.kind === 'LowerAcknowledgements',
      isSafeToRecord: (change, position, input) =>
        change.kind === 'Add' ||
        change.kind === 'LowerAcknowledgements' ||
        realRules.isSafeToRecord(change, position, input),
    },
    // A member is added just before its primary is cut off or stands still, long enough for its Lease to run out.
    emphasis: {
      changeMembership: 20,
      leave: 12,
      isolate: 8,
      pause: 8,
      live: 6,
      suspect: 4,
      tick: 3,
      pursue: 2,
      thaw: 1,
      order: 1,
      mendAll: 1,
      rush: 0.6,
      ...Object.fromEntries(
        (['cut', 'mute', 'wipe', 'crash', 'crashPostgres', 'release', 'stop', 'handOver', 'lose'] as const).map(
          (what) => [what, 0],
        ),
      ),
    },
    shapes: [
      [2, 0],
      [3, 0],
      [2, 1],
    ],
  },
  {
    name: 'long-horizon',
    breaks: 'the bound of what a router may rely on: as long as a Kubernetes Lease, though k may be raised meanwhile',
    rules: { ...realRules, deliverableMs: (remainingMs) => remainingMs ?? Number.POSITIVE_INFINITY },
    shapes: [[3, 0]],
    emphasis: { pause: 6, suspect: 4, thaw: 4, rush: 3, wipe: 0 },
    wish: 1,
  },
];
