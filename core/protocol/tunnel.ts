/**
 * The handshake of a tunnel between two agents: one JSON line each way over mutual TLS, then raw bytes.
 * Both sides state who they are and at which epoch; a tunnel towards an epoch below the promise is refused, and closing the
 * tunnel is the fence (docs/design.md, section 4). The identity must match the certificate's URI.
 */
import { z } from 'zod';
import { memberIdentitySchema } from './orders.ts';

/** stream: a follower's WAL receiver. basebackup: one clone. slotsync: the slot synchronisation worker. rewind: pg_rewind's look at its source. */
export const tunnelPurposeSchema = z.enum(['stream', 'basebackup', 'slotsync', 'rewind']);
export type TunnelPurpose = z.infer<typeof tunnelPurposeSchema>;

/** The longest handshake line that either side reads. */
export const maxHandshakeBytes = 4096;

export const tunnelHelloSchema = z.object({
  protocol: z.literal(1),
  purpose: tunnelPurposeSchema,
  /**
   * Random, one for each use: a clone's two connections share it. A member's tunnel of another session and the same or a
   * competing purpose (stream, basebackup) is closed first, so that a half-dead one can't hold the slot.
   */
  session: z.string().regex(/^[0-9a-f]{16}$/),
  shardUid: z.string(),
  from: memberIdentitySchema,
  to: memberIdentitySchema,
  epoch: z.int().min(1),
  generation: z.int().min(0),
});
export type TunnelHello = z.infer<typeof tunnelHelloSchema>;

export const tunnelRefusalCodeSchema = z.enum([
  'WrongShard',
  'WrongMember',
  'StaleEpoch',
  'NotPrimary',
  'NotReady',
  'Invalid',
]);
export type TunnelRefusalCode = z.infer<typeof tunnelRefusalCodeSchema>;

export const tunnelReplySchema = z.discriminatedUnion('accepted', [
  z.object({ accepted: z.literal(true), member: memberIdentitySchema, epoch: z.int(), generation: z.int() }),
  z.object({
    accepted: z.literal(false),
    code: tunnelRefusalCodeSchema,
    message: z.string(),
  }),
]);
export type TunnelReply = z.infer<typeof tunnelReplySchema>;
