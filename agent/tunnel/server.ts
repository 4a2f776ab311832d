/**
 * The primary's end of the tunnels: takes other agents' connections, checks who they are and at which epoch, and joins each
 * one that is accepted to this member's Postgres, under a user and name of its own choosing. It knows every tunnel that
 * is open, so that all of them, or one member's, can be closed at once: closing them is the fence.
 * Invariants: no tunnel outlives the context (epoch, role, peers) that it was accepted in, the caller says when that
 * changes; a member has at most one session of stream or basebackup.
 */
import { connect, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Credentials } from '#agent/tls/credentials.ts';
import { MemberListener } from '#agent/tls/member-listener.ts';
import { type Place, peerOf } from '#agent/tls/peer.ts';
import { type MemberIdentity, slotName } from '#core/identity.ts';
import type { TunnelHello, TunnelReply } from '#core/protocol/tunnel.ts';
import { CommandFilter } from './command-filter.ts';
import { forceStartup } from './forced-startup.ts';
import { decideTunnel, handshakeLine, parseHello, readLine, type TunnelContext } from './handshake.ts';
import { join, SILENT_COPY_MS } from './pipe.ts';
import { receiveStartup } from './receive-startup.ts';
import { fatalError, writeStartupPacket } from './startup-packet.ts';

export interface TunnelServerOptions {
  readonly place: Place;
  readonly credentials: Credentials;
  /** Path of the socket of this member's Postgres. */
  readonly postgresSocket: string;
  /** Asked anew for every connection. */
  readonly context: () => TunnelContext | undefined;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
}

interface OpenTunnel {
  readonly hello: TunnelHello;
  readonly socket: Socket;
}

const HANDSHAKE_TIMEOUT_MS = 5_000;
const LASTING_MS = 1_000;
const SAY_AGAIN_MS = 5_000;
const MAX_SAID = 256;

export class TunnelServer {
  readonly #options: TunnelServerOptions;
  readonly #listener: MemberListener;
  readonly #open = new Set<OpenTunnel>();
  #sentBytes = 0;
  /** When each refusal was said last, by peer and reason. */
  readonly #saidRefusals = new Map<string, number>();

  constructor(options: TunnelServerOptions) {
    this.#options = options;
    this.#listener = new MemberListener({
      credentials: options.credentials,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
      highWaterMark: 1 << 18,
      onConnection: (socket) => void this.#serve(socket),
      onRefused: (reason) => options.log.warn({ reason }, 'tunnel: TLS refused'),
    });
  }

  /** Bytes of WAL and base copies sent since the start. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  get openCount(): number {
    return this.#open.size;
  }

  listen(port: number, host?: string): Promise<number> {
    return this.#listener.listen(port, host);
  }

  renew(credentials: Credentials): void {
    this.#listener.renew(credentials);
  }

  /** Closes every tunnel that the present context would not accept again. Returns how many. */
  closeUnaccepted(): number {
    const context = this.#options.context();
    return this.#close(({ hello }) => {
      const peer = { kind: 'member' as const, member: hello.from.name, ...this.#options.place };
      return !decideTunnel(hello, peer, context === undefined ? undefined : { ...context, isReady: true }).accepted;
    });
  }

  closeAll(): number {
    return this.#close(() => true);
  }

  /** Followers come back by themselves; base copies, which would have to start over, stay. */
  closeStreams(): number {
    return this.#close(({ hello }) => hello.purpose === 'stream');
  }

  async stop(): Promise<void> {
    this.closeAll();
    await this.#listener.stop();
  }

  #close(which: (tunnel: OpenTunnel) => boolean): number {
    const closing = [...this.#open].filter(which);
    for (const { socket } of closing) socket.destroy();
    return closing.length;
  }

  async #serve(socket: TLSSocket): Promise<void> {
    socket.on('error', () => socket.destroy());
    socket.setNoDelay(true).setKeepAlive(true, HANDSHAKE_TIMEOUT_MS);
    try {
      const accepted = await this.#handshake(socket);
      if (accepted !== undefined) await this.#join(socket, accepted);
    } catch (error) {
      this.#options.log.warn({ reason: error instanceof Error ? error.message : String(error) }, 'tunnel: failed');
    } finally {
      socket.destroy();
    }
  }

  async #handshake(socket: TLSSocket): Promise<TunnelHello | undefined> {
    const { place, context } = this.#options;
    const peer = peerOf(socket, place);
    const hello = parseHello(await readLine(socket, HANDSHAKE_TIMEOUT_MS));
    const reply =
      peer === undefined || hello === undefined
        ? {
            accepted: false as const,
            code: 'Invalid' as const,
            message: 'no identity of this keyspace, or no handshake',
          }
        : decideTunnel(hello, peer, context());
    if (!reply.accepted || hello === undefined) {
      this.#sayRefused(hello, reply);
      socket.end(handshakeLine(reply));
      setTimeout(() => socket.destroy(), HANDSHAKE_TIMEOUT_MS).unref();
      await new Promise((resolve) => socket.once('close', resolve));
      return undefined;
    }
    socket.write(handshakeLine(reply));
    return hello;
  }

  async #join(socket: TLSSocket, hello: TunnelHello): Promise<void> {
    const { postgresSocket, log, context, place } = this.#options;
    const { purpose, from } = hello;
    const asked = await receiveStartup(socket, HANDSHAKE_TIMEOUT_MS);
    const forced = forceStartup(purpose, from, asked);
    if (forced.kind === 'refused') return refuse(socket, '08P01', forced.reason);
    // What held at the handshake may have changed while the first packet came.
    const peer = { kind: 'member' as const, member: from.name, ...place };
    const still = decideTunnel(hello, peer, context());
    if (!still.accepted) return refuse(socket, '57P03', still.message);

    if (purpose === 'basebackup' || purpose === 'rewind') socket.setTimeout(SILENT_COPY_MS, () => socket.destroy());
    this.#close((other) => competes(other.hello, hello));
    const tunnel: OpenTunnel = { hello, socket };
    this.#open.add(tunnel);
    socket.once('close', () => this.#open.delete(tunnel));
    const postgres = connect({ path: postgresSocket, readableHighWaterMark: 1 << 18 } as { path: string });
    postgres.on('error', () => postgres.destroy());
    const openedAt = performance.now();
    // A follower that is turned away tries twice a second: what didn't last is no transition.
    const lasting = setTimeout(() => log.info({ from, purpose }, 'tunnel: open'), LASTING_MS);
    postgres.write(writeStartupPacket(forced.parameters));
    const filter =
      purpose === 'slotsync' || purpose === 'rewind'
        ? undefined
        : new CommandFilter(purpose, slotName(from.incarnation));
    await join(socket, postgres, {
      onChunk: (chunk) => {
        this.#sentBytes += chunk.length;
      },
      ...(filter === undefined ? {} : { filter: (chunk) => this.#filtered(filter, chunk, from) }),
    });
    clearTimeout(lasting);
    const openForMs = Math.round(performance.now() - openedAt);
    if (openForMs >= LASTING_MS) log.info({ from, purpose, openForMs }, 'tunnel: closed');
  }

  /** Who is refused dials again ten times a second, for several purposes: the same refusal is said once in a while. */
  #sayRefused(hello: TunnelHello | undefined, reply: TunnelReply): void {
    const { log } = this.#options;
    const said = JSON.stringify([hello?.from, reply]);
    const now = performance.now();
    if (now - (this.#saidRefusals.get(said) ?? -SAY_AGAIN_MS) < SAY_AGAIN_MS) return;
    // Peers choose what they say they are: it doesn't grow with that.
    if (this.#saidRefusals.size >= MAX_SAID) this.#saidRefusals.clear();
    this.#saidRefusals.set(said, now);
    log.warn({ from: hello?.from, purpose: hello?.purpose, reply }, 'tunnel: refused');
  }

  #filtered(filter: CommandFilter, chunk: Buffer, from: MemberIdentity): Buffer | undefined {
    const result = filter.push(chunk);
    if (result.kind === 'pass') return result.chunk;
    this.#options.log.warn({ from, reason: result.reason }, 'tunnel: command refused');
    return undefined;
  }
}

/** A half-dead connection would keep the slot: the newest session of a member wins. */
export function competes(old: TunnelHello, fresh: TunnelHello): boolean {
  if (old.from.name !== fresh.from.name || old.session === fresh.session) return false;
  return old.purpose === 'slotsync' ? fresh.purpose === 'slotsync' : fresh.purpose !== 'slotsync';
}

function refuse(socket: Socket, sqlState: string, reason: string): void {
  socket.end(fatalError(sqlState, reason));
}
