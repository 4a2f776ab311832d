/**
 * Where an agent reads who has authority over its shard and who counts in it, straight from the record (never a cache):
 * the start gate, and what a member asks before it throws its data away.
 * Two implementations: the API server, and a file for tests without a cluster.
 * Source: docs/design.md, section 4, "Start gate".
 */
import { z } from 'zod';
import type { MemberIdentity } from '#core/identity.ts';

/** The part of a Shard that agents go by. */
export const shardAuthoritySchema = z.object({
  metadata: z.object({ uid: z.string() }),
  status: z
    .object({
      authority: z
        .object({
          epoch: z.int(),
          timeline: z.int().optional(),
          member: z.string(),
          incarnation: z.string(),
          state: z.enum(['Initialising', 'Active', 'Stopping']),
        })
        .optional(),
      membership: z
        .object({
          generation: z.int(),
          members: z.array(z.object({ name: z.string(), incarnation: z.string() })),
        })
        .optional(),
    })
    .optional(),
});
export type ShardAuthority = z.infer<typeof shardAuthoritySchema>;

export interface AuthoritySource {
  /** @throws when the record can't be read now; undefined when there is no such Shard. */
  read(): Promise<ShardAuthority | undefined>;
}

export type Confirmation = { readonly confirmed: true } | { readonly confirmed: false; readonly reason: string };

/** Whether the record gives `member` the authority at exactly `epoch`, for opening or for initialising. */
export function confirmAuthority(
  shard: ShardAuthority | undefined,
  wanted: {
    readonly shardUid: string;
    readonly member: MemberIdentity;
    readonly epoch: number;
    /** Left out where the orders don't know it. */
    readonly timeline?: number;
  },
): Confirmation {
  if (shard === undefined) return { confirmed: false, reason: 'there is no such Shard' };
  if (shard.metadata.uid !== wanted.shardUid) {
    return { confirmed: false, reason: `the Shard has UID ${shard.metadata.uid}, the orders say ${wanted.shardUid}` };
  }
  const authority = shard.status?.authority;
  if (authority === undefined) return { confirmed: false, reason: 'the Shard has no authority yet' };
  const { epoch, timeline, member, incarnation, state } = authority;
  if (member !== wanted.member.name || incarnation !== wanted.member.incarnation) {
    return { confirmed: false, reason: `the authority is ${member}'s (incarnation ${incarnation})` };
  }
  if (epoch !== wanted.epoch) return { confirmed: false, reason: `the authority is of epoch ${epoch}` };
  if (wanted.timeline !== undefined && timeline !== undefined && timeline !== wanted.timeline) {
    return { confirmed: false, reason: `the authority is of timeline ${timeline}, not ${wanted.timeline}` };
  }
  return state === 'Stopping' ? { confirmed: false, reason: 'the authority is being stopped' } : { confirmed: true };
}

/**
 * Whether the record lets `member` go. What it acknowledged counts for as long as the membership lists it, whatever its
 * last orders say (docs/design-traps.md, A2); a record that says nothing lets nobody go.
 */
export function confirmRelease(
  shard: ShardAuthority | undefined,
  wanted: { readonly shardUid: string; readonly member: MemberIdentity },
): Confirmation {
  if (shard === undefined) return { confirmed: false, reason: 'there is no such Shard' };
  if (shard.metadata.uid !== wanted.shardUid) {
    return { confirmed: false, reason: `the Shard has UID ${shard.metadata.uid}, the orders say ${wanted.shardUid}` };
  }
  const membership = shard.status?.membership;
  if (membership === undefined) return { confirmed: false, reason: 'the Shard has no membership yet' };
  const { name, incarnation } = wanted.member;
  return membership.members.some((listed) => listed.name === name && listed.incarnation === incarnation)
    ? { confirmed: false, reason: `the membership of generation ${membership.generation} lists this member` }
    : { confirmed: true };
}
