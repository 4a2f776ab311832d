/**
 * What the operator asks of a member's agent (`PUT /v1/orders`). Level-triggered: the whole wish every time, never a step.
 * The agent checks identity and order (epoch, leader term, sequence), keeps the orders on its volume and works towards them.
 * Who may be primary is not decided here: an agent opens Postgres for writes only after reading its own name in
 * `Shard.status.authority` (docs/design.md, section 4, "Start gate").
 */
import { z } from 'zod';
import { incarnationForm } from '../identity.ts';

export const memberIdentitySchema = z.object({
  name: z.string().min(1).max(63),
  incarnation: z.string().regex(incarnationForm),
});

/**
 * Hold: Postgres stays down. Initialise: make the first data directory of the shard. Primary: be it at this epoch; a standby
 * is promoted for that. Follower: clone where there is no data, rewind where it diverged.
 */
export const memberRoleSchema = z.enum(['Hold', 'Initialise', 'Primary', 'Follower']);
export type MemberRole = z.infer<typeof memberRoleSchema>;

export const ordersSchema = z.object({
  shard: z.object({
    namespace: z.string(),
    name: z.string(),
    uid: z.string(),
    keyspace: z.string(),
    database: z.string(),
  }),
  member: memberIdentitySchema,
  role: memberRoleSchema,
  /** Epoch of the authority that these orders serve; from 1. */
  epoch: z.int().min(1),
  /** `leaseTransitions` of the operator's Lease, then a number that grows within that term. */
  leaderTerm: z.int().min(0),
  sequence: z.int().min(0),
  /** Generation of `Shard.status.membership` that the lists below come from. */
  generation: z.int().min(0),
  /** Where the primary's agent is; absent only for Hold and Initialise. `address` is its pod's IP. */
  source: memberIdentitySchema.extend({ address: z.string(), tunnelPort: z.int().min(1).max(65535) }).optional(),
  /** Drives `synchronous_standby_names = ANY k (...)`; `members` never includes the primary. */
  synchronous: z.object({ acknowledgements: z.int().min(0), members: z.array(memberIdentitySchema) }),
  /**
   * Whose grants keep this member primary; meant for Initialise and Primary. The lease holds until the `required`-th latest
   * grant of `members` runs out and, with `kubernetes`, no longer than the later of the Kubernetes Lease of the shard and of
   * the grants of all `members` (k = 0). Nothing required and no `kubernetes`: nobody else could become primary.
   */
  lease: z
    .object({
      members: z.array(memberIdentitySchema),
      required: z.int().min(0),
      kubernetes: z.boolean(),
    })
    .default({ members: [], required: 0, kubernetes: false }),
  /** `Shard.status.authority.timeline`: the one that a promotion must take. 0 where the sender doesn't know it. */
  timeline: z.int().min(0).default(0),
  /** `Shard.status.history`: which epoch a timeline belongs to, and where it left which other one; oldest first. */
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
    .default([]),
  /**
   * A follower whose data diverged may be rewound in place. False while its copy counts: it is removed from the membership
   * first (docs/design-traps.md, A2, A24).
   */
  mayRewind: z.boolean().default(false),
  /**
   * Sent by whoever ran a failover, leader or not: ordered by epoch alone, taken only for an epoch above that of the orders
   * taken before, and leaves (leader term, sequence) of the promise as they are (docs/design.md, section 4, "The promise").
   */
  takeover: z.boolean().default(false),
  /**
   * Follower orders of a takeover before its decision: `source` is no primary but another fenced member at the same promise,
   * from which this one gets the log that it lacks. They promise the epoch to nobody and grant nothing; orders of the same
   * epoch follow on them, and a fence of the same epoch stays the same fence.
   */
  ship: z.boolean().optional(),
  /** All other members for which this one keeps a physical replication slot. */
  slots: z.array(memberIdentitySchema),
  /** Postgres parameters of the Shard, over the agent's defaults and under its fixed ones. */
  parameters: z.record(z.string(), z.string()),
  /** A new value asks for one restart of Postgres (a parameter that only a restart can change). */
  restartNonce: z.string().default(''),
});

export type Orders = z.infer<typeof ordersSchema>;

export type OrdersRefusalCode =
  | 'WrongShard'
  | 'WrongMember'
  | 'WrongIncarnation'
  | 'StaleEpoch'
  | 'StaleSequence'
  | 'HasData'
  | 'Invalid';

/** Body of a 409 (or 400 for Invalid) answer. */
export interface OrdersRefusal {
  readonly code: OrdersRefusalCode;
  readonly message: string;
}
