/**
 * The handshake of a tunnel: lines of JSON, and the decision of the side that is dialled. The decision is pure; what it
 * goes by is stated in `TunnelContext`. Closing a tunnel is the fence, so what is accepted here is accepted for exactly
 * this epoch and these two identities.
 */
import type { Socket } from 'node:net';
import type { MemberIdentity, PeerIdentity } from '#core/identity.ts';
import {
  maxHandshakeBytes,
  type TunnelHello,
  type TunnelRefusalCode,
  type TunnelReply,
  tunnelHelloSchema,
  tunnelReplySchema,
} from '#core/protocol/tunnel.ts';
import { receive } from './received.ts';

/** What the dialled side is, at this moment. */
export interface TunnelContext {
  readonly member: MemberIdentity;
  readonly shardUid: string;
  readonly epoch: number;
  readonly generation: number;
  /** Ordered to be primary, with its epoch confirmed. */
  readonly isPrimary: boolean;
  /**
   * A standby that has promised `epoch` and has no primary yet: another member that promised the same may take from it what
   * it lacks, no more than that (docs/design.md, section 4, "Fence"; docs/design-traps.md, B6).
   */
  readonly isFenced?: boolean;
  /** Postgres takes connections. */
  readonly isReady: boolean;
  /** The other members that the orders name: nobody else may stream or copy. */
  readonly peers: readonly MemberIdentity[];
}

export function decideTunnel(hello: TunnelHello, peer: PeerIdentity, context: TunnelContext | undefined): TunnelReply {
  if (context === undefined) return refuse('NotReady', 'this agent has no orders yet');
  if (hello.shardUid !== context.shardUid) return refuse('WrongShard', `this is shard ${context.shardUid}`);
  if (peer.kind !== 'member' || peer.member !== hello.from.name) {
    return refuse('WrongMember', `the certificate is not ${hello.from.name}'s`);
  }
  if (hello.to.name !== context.member.name || hello.to.incarnation !== context.member.incarnation) {
    return refuse('WrongMember', `this is ${context.member.name}, incarnation ${context.member.incarnation}`);
  }
  if (hello.epoch !== context.epoch) {
    return refuse('StaleEpoch', `this member serves epoch ${context.epoch}, not ${hello.epoch}`);
  }
  const isShipping = context.isFenced === true && hello.purpose === 'stream';
  if (!context.isPrimary && !isShipping) return refuse('NotPrimary', 'this member is not the primary');
  const { name, incarnation } = hello.from;
  if (!context.peers.some((known) => known.name === name && known.incarnation === incarnation)) {
    return refuse('WrongMember', `the orders of the primary name no ${name} with incarnation ${incarnation}`);
  }
  if (!context.isReady) return refuse('NotReady', 'Postgres takes no connections yet');
  return { accepted: true, member: context.member, epoch: context.epoch, generation: context.generation };
}

/** What the dialling side checks in the answer: that it is the member and the epoch that it asked for. */
export function checkReply(hello: TunnelHello, reply: TunnelReply): string | undefined {
  if (!reply.accepted) return `${reply.code}: ${reply.message}`;
  const { member, epoch } = reply;
  if (member.name !== hello.to.name || member.incarnation !== hello.to.incarnation) return 'another member answered';
  return epoch === hello.epoch ? undefined : `the answer is of epoch ${epoch}, not ${hello.epoch}`;
}

export const parseHello = (line: string): TunnelHello | undefined => tunnelHelloSchema.safeParse(parseJson(line)).data;
export const parseReply = (line: string): TunnelReply | undefined => tunnelReplySchema.safeParse(parseJson(line)).data;
export const handshakeLine = (message: TunnelHello | TunnelReply): string => `${JSON.stringify(message)}\n`;

/** One line of at most `maxHandshakeBytes`; the socket is paused when this resolves. */
export function readLine(socket: Socket, timeoutMs: number): Promise<string> {
  return receive(socket, timeoutMs, 'answer', (received) => {
    const end = received.indexOf(0x0a);
    if ((end < 0 ? received.length : end) > maxHandshakeBytes)
      return { kind: 'refused', reason: 'a line that is too long' };
    return end < 0 ? { kind: 'more' } : { kind: 'value', value: received.toString('utf8', 0, end), bytes: end + 1 };
  });
}

const refuse = (code: TunnelRefusalCode, message: string): TunnelReply => ({ accepted: false, code, message });

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
