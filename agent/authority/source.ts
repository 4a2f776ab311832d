/**
 * Where an agent reads who has authority over its shard, straight from the record (never a cache): the start gate.
 * Two implementations: the API server, and a file for tests without a cluster.
 * Source: docs/design.md, section 4, "Start gate".
 */
import { z } from 'zod';
import type { MemberIdentity } from '#core/identity.ts';

/** The part of a Shard that the start gate needs. */
export const shardAuthoritySchema = z.object({
  metadata: z.object({ uid: z.string() }),
  status: z
    .object({
      authority: z
        .object({
          epoch: z.int(),
          member: z.string(),
          incarnation: z.string(),
          state: z.enum(['Initialising', 'Active', 'Stopping']),
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
  wanted: { readonly shardUid: string; readonly member: MemberIdentity; readonly epoch: number },
): Confirmation {
  if (shard === undefined) return { confirmed: false, reason: 'there is no such Shard' };
  if (shard.metadata.uid !== wanted.shardUid) {
    return { confirmed: false, reason: `the Shard has UID ${shard.metadata.uid}, the orders say ${wanted.shardUid}` };
  }
  const authority = shard.status?.authority;
  if (authority === undefined) return { confirmed: false, reason: 'the Shard has no authority yet' };
  const { epoch, member, incarnation, state } = authority;
  if (member !== wanted.member.name || incarnation !== wanted.member.incarnation) {
    return { confirmed: false, reason: `the authority is ${member}'s (incarnation ${incarnation})` };
  }
  if (epoch !== wanted.epoch) return { confirmed: false, reason: `the authority is of epoch ${epoch}` };
  return state === 'Stopping' ? { confirmed: false, reason: 'the authority is being stopped' } : { confirmed: true };
}
