/**
 * What an agent says about authority at once, from memory (`POST /v1/authority`), and how it is fenced (`POST /v1/fence`).
 * Operators, routers and other agents may ask; only operators may fence. Ages and remaining times are in milliseconds on
 * the answering agent's boot-time clock, never points in time: whoever receives them counts from its own clock, remaining
 * times from *sending* its question where it relies on them, from *receiving* the answer where it waits them out.
 * Source: docs/design.md, section 4 ("Lease", "Fence"), section 6 ("Consistency", strong).
 */
import { z } from 'zod';
import { memberIdentitySchema } from './orders.ts';

const milliseconds = () => z.number().min(0);

/** `name/incarnation`; empty for nobody. */
const grantee = () => z.string().max(80);

/** What a router says with its question; a member counts as drained once every router it has heard of lately holds and has nothing in flight. */
export const routerWordSchema = z.object({
  /** Random, one for each router process. */
  id: z.string().regex(/^[0-9a-f]{16}$/),
  /** The highest epoch at which the router sends nothing new to this member: it holds new transactions. 0 while it sends. */
  holdsAtEpoch: z.int().min(0),
  /** Statements and transactions of this member that are under way in the router. */
  inFlight: z.int().min(0),
  /** Its process ends: it is not waited for any more. */
  goodbye: z.boolean().optional(),
});
export type RouterWord = z.infer<typeof routerWordSchema>;

export const authorityQuestionSchema = z.object({
  router: routerWordSchema.optional(),
  /** With both, the answer waits (bounded by `waitMs`, at most 2,000) until the version is another one. */
  after: z.int().min(0).optional(),
  waitMs: z.int().min(0).max(2_000).optional(),
});
export type AuthorityQuestion = z.infer<typeof authorityQuestionSchema>;

/**
 * down: no Postgres. starting: it recovers. opening: a primary behind its opening gate. open: a primary that serves.
 * stopping: a primary that is being handed over; routers hold. following: a follower with a source. fenced: a member that
 * has promised an epoch whose primary it doesn't know yet.
 */
export const authorityStateSchema = z.enum(['down', 'starting', 'opening', 'open', 'stopping', 'following', 'fenced']);
export type AuthorityState = z.infer<typeof authorityStateSchema>;

export const authorityAnswerSchema = z.object({
  member: memberIdentitySchema,
  shardUid: z.string(),
  region: z.string(),
  /** Grows with every change of anything here but ages and remaining times; from 1, and from 1 again after a restart. */
  version: z.int().min(1),
  state: authorityStateSchema,
  promise: z.object({
    epoch: z.int().min(0),
    grantee: grantee(),
    generation: z.int().min(0),
    /** How long ago it was made; after a restart of the agent, since that restart. */
    ageMs: milliseconds(),
  }),
  agentAgeMs: milliseconds(),
  /** The highest authority that this agent has read in the record or was ordered to serve under; routers learn it here. */
  known: z.object({ epoch: z.int(), member: memberIdentitySchema, address: z.string().optional() }).optional(),
  /** Of a member whose orders make it primary. */
  primary: z
    .object({
      epoch: z.int(),
      timeline: z.int(),
      /** A canary was committed in the last 2 s, or only followers keep it from being committed. */
      serving: z.boolean(),
      /** Of the lease, margin taken off; null where none is needed (nobody else could become primary). 0: not held. */
      leaseRemainingMs: milliseconds().nullable(),
      /** Grows each time the lease was lost: a lease that lapsed and was regained is another one (docs/design-traps.md, section 6). */
      leaseNumber: z.int().min(0),
      /** It has given its epoch up: no process of Postgres is left, and it asks for no more grants (docs/design-traps.md, A13). */
      released: z.boolean(),
    })
    .optional(),
  /** Of a member whose orders make it follower. */
  follower: z
    .object({
      source: memberIdentitySchema,
      epoch: z.int(),
      /** Since the last lease request that said serving; null where none came since the agent's start. */
      servingHeardMs: milliseconds().nullable(),
      /** Since the last byte of WAL (not keep-alives); null as above. */
      walHeardMs: milliseconds().nullable(),
      /** Of the longest grant to any epoch below the next one; what a fence would have to wait out now. */
      grantRemainingMs: milliseconds(),
    })
    .optional(),
  /**
   * To routers: how far its Postgres is, in a look that began so long after the question was received (negative: before).
   * A router may take it for true from that much after it *sent* the question (docs/design-traps.md, T5).
   */
  position: z
    .object({
      begunMs: z.number(),
      /** Start time of the Postgres, in microseconds: its replay doesn't go back while it runs. */
      postmaster: z.string().max(20),
      isRecovering: z.boolean(),
      /** That its data shows; on a follower the LSN may be further than the row. */
      epoch: z.int().min(0),
      /** Flushed by a primary, replayed by a follower. */
      lsn: z.string(),
    })
    .optional(),
  /** To routers: the newest entries of the record's history that this agent knows, oldest first. */
  history: z
    .array(
      z.object({
        epoch: z.int(),
        timeline: z.int(),
        member: z.string(),
        forkLsn: z.string(),
        parent: z.int().optional(),
      }),
    )
    .optional(),
  /**
   * To routers, of an open primary: by whose copies what is committed, and read from them, is held safe. Narrower than the record
   * where a change is under way, and the change waits `membershipHeldMs` for those who know it otherwise (docs/design-traps.md, A17).
   */
  keepers: z.object({ acknowledgements: z.int().min(0), members: z.array(memberIdentitySchema) }).optional(),
  /**
   * To routers, of an open primary: what so many followers as have to have flushed, in its epoch: it can't be lost with fewer, it is in
   * every later epoch, and the commits in it have been let go, so that the primary shows them, too.
   */
  acknowledged: z.object({ epoch: z.int(), lsn: z.string() }).optional(),
});
export type AuthorityAnswer = z.infer<typeof authorityAnswerSchema>;

export const fenceQuestionSchema = z.object({
  shardUid: z.string(),
  member: memberIdentitySchema,
  /** e': promised from now on; nothing below it is granted, streamed from or opened. */
  epoch: z.int().min(1),
  /** The operator replica that asks, for people and for whose promise it is. */
  by: z.string().max(120),
  /**
   * The member is the primary and is to stop for a planned handover: routers are drained first (bounded), Postgres stops
   * fast, its followers get the last of the log. Otherwise a primary is stopped at once.
   */
  handover: z.boolean(),
});
export type FenceQuestion = z.infer<typeof fenceQuestionSchema>;

export const fencedSchema = z.object({
  member: memberIdentitySchema,
  epoch: z.int(),
  /**
   * End of the last complete record on disk, and the timeline of that record; null while it can't be read (a half-made
   * copy, an interrupted rewind, no data): such a member doesn't count (docs/design-traps.md, A4 and B6).
   */
  position: z.object({ timeline: z.int(), lsn: z.string() }).nullable(),
  /** Why there is no position. */
  problem: z.string(),
  /** How long any grant below the epoch may still run. */
  leaseRemainingMs: milliseconds(),
  /** No process of its Postgres is left that could write at an epoch below. Always true of a follower. */
  stopped: z.boolean(),
  systemIdentifier: z.string(),
});
export type Fenced = z.infer<typeof fencedSchema>;

/**
 * Promised: a higher epoch is promised, or this one to a member already (`promise` says which). Active: the epoch is granted
 * or followed already, so it is no fence any more (docs/design-traps.md, A11). Busy: still on the way (a stop, an end of
 * replay): ask again with the same epoch; the promise itself holds already.
 */
export const fenceRefusalCodeSchema = z.enum([
  'WrongShard',
  'WrongMember',
  'WrongIncarnation',
  'Promised',
  'Active',
  'Busy',
  'Invalid',
]);
export const fenceRefusalSchema = z.object({
  code: fenceRefusalCodeSchema,
  message: z.string(),
  promise: z.object({ epoch: z.int(), grantee: grantee(), ageMs: milliseconds() }).optional(),
});
export type FenceRefusal = z.infer<typeof fenceRefusalSchema>;
