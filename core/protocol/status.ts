/**
 * What an agent says about its member (`GET /v1/status`): facts it has seen, with nothing decided.
 * LSNs are in Postgres' text form. Ages in milliseconds on the agent's own monotonic clock.
 */
import { z } from 'zod';
import { memberIdentitySchema, memberRoleSchema } from './orders.ts';

/**
 * Waiting: no orders yet. Holding: ordered to stay down. Initialising, Cloning, Starting: on the way.
 * Confirming: waiting at the start gate for `Shard.status`. Promoting: a standby on its way to be primary. Opening: a primary
 * behind its opening gate, until enough followers have its first commit. Primary: open for writes. Stopping: a primary that
 * is handed over. Following: a running follower. Rewinding: a follower on its way back to its primary's history.
 * Fenced: it has promised an epoch whose primary it doesn't know yet. Released: a primary that has given its epoch up.
 * Failed: see `problem`; the agent tries again by itself.
 */
export const agentPhaseSchema = z.enum([
  'Waiting',
  'Holding',
  'Initialising',
  'Cloning',
  'Starting',
  'Confirming',
  'Promoting',
  'Opening',
  'Primary',
  'Stopping',
  'Following',
  'Rewinding',
  'Fenced',
  'Released',
  'Failed',
]);
export type AgentPhase = z.infer<typeof agentPhaseSchema>;

export const agentStatusSchema = z.object({
  member: memberIdentitySchema,
  region: z.string(),
  phase: agentPhaseSchema,
  /** What stands in the way, for people; empty when nothing does. */
  problem: z.string(),
  hasData: z.boolean(),
  promise: z.object({ shardUid: z.string(), epoch: z.int(), grantee: z.string(), generation: z.int() }).optional(),
  systemIdentifier: z.string().optional(),
  /** The orders being worked on: how to tell whether the operator's wish has arrived. */
  orders: z
    .object({
      role: memberRoleSchema,
      epoch: z.int(),
      leaderTerm: z.int(),
      sequence: z.int(),
      generation: z.int(),
      /** `digestOfOrders` of the orders. */
      digest: z.string(),
      /**
       * True once the running Postgres works by these orders: sync list and slots set, and every walsender shown to have the
       * list (the barrier of trap A9). Parameters that wait for a restart don't hold it back. Absent means false.
       */
      applied: z.boolean().optional(),
      /** As ordered; the operator leaves it as it is until this member's turn to restart comes. */
      restartNonce: z.string().optional(),
    })
    .optional(),
  postgres: z
    .object({
      running: z.boolean(),
      /** True when it takes connections over the network. */
      open: z.boolean(),
      inRecovery: z.boolean(),
      version: z.string(),
      timeline: z.int(),
      /** On a primary: inserted, written and flushed; on a follower: received (written, flushed) and replayed. */
      lsn: z.object({ written: z.string(), flushed: z.string(), replayed: z.string() }),
      /** Milliseconds since the last replayed commit; 0 when everything received is replayed. Absent on a primary. */
      replayAgeMs: z.number().optional(),
      /** Epoch of the data: what `meridian.authority` says, or the promise's at first start. */
      epoch: z.int(),
      pendingRestart: z.boolean(),
      /** Restart nonce that the running Postgres was started with. */
      restartNonce: z.string(),
    })
    .optional(),
  /** On a follower. */
  upstream: z
    .object({
      member: z.string(),
      streaming: z.boolean(),
      lagBytes: z.number(),
      caughtUp: z.boolean(),
      /**
       * The primary no longer has the WAL that this member's data needs. A member that its orders don't list as an
       * acknowledger then throws its data away and comes back as another incarnation; one that they list waits to be
       * removed from the membership first (docs/design-traps.md, A2).
       */
      needsCopy: z.boolean().optional(),
    })
    .optional(),
  /** On a primary: each standby that streams through a tunnel. */
  standbys: z.array(
    z.object({
      name: z.string(),
      incarnation: z.string(),
      state: z.string(),
      flushed: z.string(),
      replayed: z.string(),
      lagBytes: z.number(),
      sync: z.string(),
    }),
  ),
  slots: z.array(z.object({ name: z.string(), active: z.boolean(), retainedBytes: z.number(), walStatus: z.string() })),
  clone: z.object({ receivedBytes: z.number(), totalBytes: z.number() }).optional(),
  /**
   * On a member whose data has left its primary's history (it was written at an older epoch past the fork of the next): at
   * which position, and what of it has been counted and kept aside (docs/design-traps.md, A24, ambiguity 28).
   */
  diverged: z
    .object({
      timeline: z.int(),
      /** Where its history and its primary's part. */
      forkLsn: z.string(),
      /** End of what it has. */
      lsn: z.string(),
      /** Transactions with an id and a commit record past the fork; undefined until counted. */
      transactions: z.int().optional(),
      /** Where the WAL lies on the volume; undefined until it does. */
      keptIn: z.string().optional(),
      /** It waits for `mayRewind`. */
      waiting: z.boolean(),
    })
    .optional(),
  /** The last rejoin that was completed. */
  rejoined: z
    .object({
      how: z.enum(['Rewind', 'Copy']),
      epoch: z.int(),
      forkLsn: z.string(),
      lsn: z.string(),
      transactions: z.int().optional(),
      /** Where the diverged WAL lies on the volume; absent where none could be kept. */
      keptIn: z.string().optional(),
    })
    .optional(),
  /** Certificate in use, for the renewal's sake. */
  certificateNotAfter: z.string().optional(),
});

export type AgentStatus = z.infer<typeof agentStatusSchema>;
