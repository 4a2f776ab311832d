/**
 * The primary's side of the lease port: takes the followers that dial in, asks each of them every 300 ms, and hands their
 * grants on with the time that the question was sent. It listens from the agent's start, and turns callers away while this
 * member isn't primary.
 * Who is called what: the name is the certificate's, the incarnation the caller's word, and only members that the wish names
 * are taken (docs/design-traps.md, A20). A caller that has granted nothing for a second is hung up on; it dials again.
 * Bounds: connections, the time for a handshake, bytes that wait for a caller that doesn't read, questions without an answer.
 */
import type { TLSSocket } from 'node:tls';
import type { Credentials } from '#agent/tls/credentials.ts';
import { MemberListener } from '#agent/tls/member-listener.ts';
import { type Place, peerOf } from '#agent/tls/peer.ts';
import { leaseMs, leaseRequestEveryMs } from '#core/authority/timing.ts';
import { type MemberIdentity, type PeerIdentity, replicationName } from '#core/identity.ts';
import type { LeaseLog, ServeWish } from './messages.ts';
import {
  type LeaseGrant,
  type LeaseHello,
  LineReader,
  leaseGrantSchema,
  leaseHelloSchema,
  lineOf,
  parseLine,
} from './wire.ts';

export interface AskingOptions {
  readonly place: Place;
  readonly credentials: Credentials;
  readonly identity: () => MemberIdentity;
  /** What this member stands by, and what it works towards; empty while it isn't primary. */
  readonly wishes: () => readonly ServeWish[];
  readonly isServing: () => boolean;
  /** Milliseconds since boot. */
  readonly now: () => number;
  readonly onGrant: (from: MemberIdentity, grant: LeaseGrant, sentAtMs: number) => void;
  readonly log: LeaseLog;
}

interface Session {
  readonly socket: TLSSocket;
  readonly hello: LeaseHello;
  /** When each question was sent, by its number; those that can't help any more are forgotten. */
  readonly sent: Map<number, number>;
  heardAtMs: number;
}

const HANDSHAKE_TIMEOUT_MS = 2_000;
const MAX_SAID = 64;
const MAX_WAITING_BYTES = 16_384;
export const SILENCE_MS = 1_000;

export class Asking {
  readonly #options: AskingOptions;
  readonly #listener: MemberListener;
  readonly #sessions = new Map<string, Session>();
  readonly #refused = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #n = 0;

  constructor(options: AskingOptions) {
    this.#options = options;
    this.#listener = new MemberListener({
      credentials: options.credentials,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
      onConnection: (socket) => this.#accept(socket),
      onRefused: (reason, remoteAddress) => this.#sayOnce(`tls ${remoteAddress}`, { reason }, 'lease: TLS refused'),
    });
  }

  listen(port: number, host?: string): Promise<number> {
    return this.#listener.listen(port, host);
  }

  renew(credentials: Credentials): void {
    this.#listener.renew(credentials);
  }

  /** To be called when the wishes have changed: hangs up on those that they don't name, and asks the others at once. */
  wishesChanged(): void {
    this.#refused.clear();
    for (const [key, session] of this.#sessions) {
      if (this.#whyRefused(session.hello) !== undefined) this.#end(key, session);
    }
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#options.wishes().length === 0) return;
    this.#timer = setInterval(() => this.#askAll(), leaseRequestEveryMs);
    this.#askAll();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#listener.stop();
  }

  #accept(socket: TLSSocket): void {
    socket.on('error', () => socket.destroy());
    socket.setNoDelay(true);
    const peer = peerOf(socket, this.#options.place);
    const lines = new LineReader();
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_TIMEOUT_MS);
    let session: Session | undefined;
    let isRefused = false;
    socket.once('close', () => {
      clearTimeout(timer);
      if (session !== undefined) this.#forget(session);
    });
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk) ?? [undefined]) {
        if (socket.destroyed || isRefused) return;
        if (line === undefined) return this.#malformed(socket, session, 'a line that is too long');
        if (session !== undefined) {
          this.#hear(session, line);
          continue;
        }
        clearTimeout(timer);
        session = this.#begin(socket, peer, parseLine(leaseHelloSchema, line));
        isRefused = session === undefined;
      }
    });
  }

  #begin(socket: TLSSocket, peer: PeerIdentity | undefined, hello: LeaseHello | undefined): Session | undefined {
    const why = whyWrongCaller(hello, peer) ?? (hello === undefined ? '' : this.#whyRefused(hello));
    if (hello === undefined || why !== undefined) {
      const caller = peer?.kind === 'member' ? peer.member : (peer?.kind ?? 'unknown');
      this.#sayOnce(caller, { from: hello?.from ?? caller, reason: why ?? '' }, 'lease: a caller is turned away');
      socket.end(lineOf({ type: 'refused', message: why ?? '' }));
      setTimeout(() => socket.destroy(), HANDSHAKE_TIMEOUT_MS).unref();
      return undefined;
    }
    const key = replicationName(hello.from);
    const earlier = this.#sessions.get(key);
    if (earlier !== undefined) this.#end(key, earlier);
    const session: Session = { socket, hello, sent: new Map(), heardAtMs: this.#options.now() };
    this.#sessions.set(key, session);
    if (this.#refused.delete(hello.from.name) || earlier === undefined) {
      this.#options.log.info({ from: hello.from, epoch: hello.epoch }, 'lease: a follower has dialled in');
    }
    this.#ask(key, session);
    return session;
  }

  #whyRefused({ from, to, shardUid, epoch }: LeaseHello): string | undefined {
    const { wishes, identity } = this.#options;
    const self = identity();
    if (to.name !== self.name || to.incarnation !== self.incarnation) {
      return `this is ${self.name}, incarnation ${self.incarnation}`;
    }
    const [newest] = wishes();
    if (newest === undefined) return 'this member is not primary';
    if (shardUid !== newest.shardUid) return `this is shard ${newest.shardUid}`;
    const wish = wishes().find((candidate) => candidate.epoch === epoch);
    if (wish === undefined) return `this member serves epoch ${newest.epoch}, not ${epoch}`;
    return wish.peers.some(({ name, incarnation }) => name === from.name && incarnation === from.incarnation)
      ? undefined
      : `the orders of the primary name no ${from.name} with incarnation ${from.incarnation}`;
  }

  #askAll(): void {
    for (const [key, session] of this.#sessions) this.#ask(key, session);
  }

  #ask(key: string, session: Session): void {
    const { now, wishes, isServing } = this.#options;
    const { socket, hello, sent } = session;
    const wish = wishes().find(({ epoch }) => epoch === hello.epoch);
    // The clock is read before the question leaves: the grant counts from then.
    const nowMs = now();
    if (wish === undefined || nowMs - session.heardAtMs > SILENCE_MS || socket.writableLength > MAX_WAITING_BYTES) {
      this.#end(key, session);
      return;
    }
    for (const [n, sentAtMs] of sent) if (nowMs - sentAtMs > leaseMs) sent.delete(n);
    this.#n += 1;
    sent.set(this.#n, nowMs);
    const { epoch, generation } = wish;
    socket.write(lineOf({ type: 'request', epoch, generation, n: this.#n, serving: isServing() }));
  }

  #hear(session: Session, line: string): void {
    const grant = parseLine(leaseGrantSchema, line);
    if (grant === undefined || grant.epoch !== session.hello.epoch) {
      this.#malformed(session.socket, session, 'an answer that is no grant of this epoch');
      return;
    }
    session.heardAtMs = this.#options.now();
    const sentAtMs = session.sent.get(grant.n);
    session.sent.delete(grant.n);
    // One that was never asked for, or was answered already, is nothing to go by.
    if (sentAtMs !== undefined) this.#options.onGrant(session.hello.from, grant, sentAtMs);
  }

  #malformed(socket: TLSSocket, session: Session | undefined, reason: string): void {
    const from = session?.hello.from.name ?? socket.remoteAddress ?? '';
    this.#sayOnce(from, { from, reason }, 'lease: a connection is ended');
    socket.destroy();
  }

  #end(key: string, session: Session): void {
    if (this.#sessions.get(key) === session) this.#sessions.delete(key);
    session.socket.destroy();
  }

  #forget(session: Session): void {
    const key = replicationName(session.hello.from);
    if (this.#sessions.get(key) === session) this.#sessions.delete(key);
  }

  /** A caller that is turned away comes again and again: said once for each reason. */
  #sayOnce(caller: string, details: { readonly reason: string; readonly from?: unknown }, message: string): void {
    if (this.#refused.get(caller) === details.reason) return;
    if (this.#refused.size >= MAX_SAID) this.#refused.clear();
    this.#refused.set(caller, details.reason);
    this.#options.log.warn(details, message);
  }
}

function whyWrongCaller(hello: LeaseHello | undefined, peer: PeerIdentity | undefined): string | undefined {
  if (peer === undefined) return 'the certificate has no identity of this keyspace';
  if (hello === undefined) return 'no valid hello';
  return peer.kind === 'member' && peer.member === hello.from.name
    ? undefined
    : `the certificate is not ${hello.from.name}'s`;
}
