/**
 * The follower's end of the tunnels: a local socket that looks to Postgres (and to pg_basebackup) like its primary. Every
 * connection becomes a tunnel of its own to the primary's agent. Where it leads follows the orders; when they change,
 * everything open is closed, and with no target nothing is dialled at all.
 * A connection that can't be brought anywhere yet is held for a while and dialled for again and again, rather than refused:
 * Postgres would come back half a second later only, and after a failover every follower's place is to be found at once.
 * Invariant: no tunnel is dialled towards an epoch below the promise (docs/design-traps.md, A3): the target is a function
 * of the orders taken, which are never below it, and of `promisedEpoch` at the moment of the dial.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type Credentials, secureContextOf } from '#agent/tls/credentials.ts';
import { noHostNameCheck, type Place, peerOf } from '#agent/tls/peer.ts';
import { bootTimeMs } from '#clock/boot-time.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { TunnelHello, TunnelPurpose } from '#core/protocol/tunnel.ts';
import { checkReply, handshakeLine, parseReply, readLine } from './handshake.ts';
import { join, SILENT_COPY_MS } from './pipe.ts';
import { receiveStartup } from './receive-startup.ts';
import { HandshakeError } from './received.ts';
import { MAX_REFUSAL_BYTES, readRefusal, readSystemIdentifier, WAL_REMOVED } from './refusal.ts';
import { fatalError, writeStartupPacket } from './startup-packet.ts';
import { WalHeard } from './wal-heard.ts';

export interface UpstreamTarget {
  readonly address: string;
  readonly port: number;
  readonly to: MemberIdentity;
  readonly from: MemberIdentity;
  readonly shardUid: string;
  readonly epoch: number;
  readonly generation: number;
  /** Of this member's data; absent or empty while it isn't known, and then not compared. */
  readonly systemIdentifier?: string;
  /** A base copy is being made; otherwise connections are Postgres' own. */
  readonly isCloning: boolean;
  /** pg_rewind looks at its source; Postgres is down. */
  readonly isRewinding?: boolean;
}

export interface UpstreamOptions {
  readonly place: Place;
  /** The present ones, asked for each connection. */
  readonly credentials: () => Credentials;
  readonly socketPath: string;
  /** Nothing below it is dialled, whatever the target says. */
  readonly promisedEpoch?: () => number;
  /** How long a connection waits for a tunnel before it is refused, ms. Less than Postgres' own `connect_timeout`. */
  readonly holdMs?: number;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
}

const STARTUP_TIMEOUT_MS = 5_000;
const CONNECT_TIMEOUT_MS = 3_000;
const HOLD_MS = 4_500;
/** Right after the orders changed a primary is about to be there; later there is no such hurry. */
const REDIAL_MS = 100;
const REDIAL_LATER_MS = 500;
const HURRY_MS = 5_000;
const MAX_CONNECTIONS = 16;
const REFUSALS_THAT_COUNT = 4;
/** A stream's option that the types of `tls.connect` don't list. */
const HIGH_WATER_MARK: object = { highWaterMark: 1 << 18 };

export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #server: Server;
  /** Tunnels and dials: closed with every change of the target. */
  readonly #open = new Set<Socket>();
  /** Held until there is a tunnel for them. */
  readonly #waiting = new Set<Socket>();
  #target: UpstreamTarget | undefined;
  #session = '';
  #receivedBytes = 0;
  #lastProblem = '';
  /** Streams in a row that the primary ended because the WAL they asked for is gone. */
  #walRemovedCount = 0;
  #walHeardAt: number | undefined;
  #aimedAt = 0;
  #changed = new AbortController();

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#server = createServer({ highWaterMark: 1 << 18 }, (socket) => void this.#serve(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Why the last dial failed; empty after one that worked. */
  get problem(): string {
    return this.#lastProblem;
  }

  /** When WAL last came, on the boot-time clock, ms; undefined before the first. */
  get walHeardAt(): number | undefined {
    return this.#walHeardAt;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** The primary has said again and again that it no longer has what this member's data needs. */
  get isWalRemoved(): boolean {
    return this.#walRemovedCount >= REFUSALS_THAT_COUNT;
  }

  async listen(): Promise<void> {
    const { socketPath } = this.#options;
    await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 });
    await rm(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(socketPath, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  /** Whatever is open towards another target is closed first; what waits for a tunnel gets one to this. */
  aim(target: UpstreamTarget | undefined): void {
    const isSame = isSameTarget(this.#target, target);
    this.#target = target;
    if (isSame) return;
    this.#session = newSession();
    this.#lastProblem = '';
    this.#walRemovedCount = 0;
    this.#aimedAt = performance.now();
    for (const socket of this.#open) socket.destroy();
    this.#changed.abort();
    this.#changed = new AbortController();
  }

  /** Ends what is open and lets a next base copy count as another one. */
  closeAll(): void {
    this.#session = newSession();
    for (const socket of [...this.#open, ...this.#waiting]) socket.destroy();
  }

  async stop(): Promise<void> {
    this.#target = undefined;
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.closeAll();
    this.#changed.abort();
    await stopped;
  }

  async #serve(near: Socket): Promise<void> {
    near.on('error', () => near.destroy());
    this.#waiting.add(near);
    near.once('close', () => {
      this.#waiting.delete(near);
      this.#open.delete(near);
    });
    try {
      const startup = await receiveStartup(near, STARTUP_TIMEOUT_MS);
      const { far, purpose, target } = await this.#reach(near, startup);
      this.#waiting.delete(near);
      this.#open.add(near);
      far.write(writeStartupPacket(startup));
      await this.#carry(near, far, purpose, target);
    } catch (error) {
      this.#refuse(near, messageOf(error));
    }
  }

  /** Dials until it is accepted, for as long as Postgres waits. */
  async #reach(
    near: Socket,
    startup: ReadonlyMap<string, string>,
  ): Promise<{ far: TLSSocket; purpose: TunnelPurpose; target: UpstreamTarget }> {
    const giveUpAt = performance.now() + (this.#options.holdMs ?? HOLD_MS);
    const use = useOf(this.#target);
    for (;;) {
      const target = this.#allowed;
      let problem = 'this member has no primary to follow now';
      if (target !== undefined) {
        if (useOf(target) !== use) throw new HandshakeError('the orders changed while it was waiting');
        const purpose = purposeOf(use, startup);
        try {
          const far = await this.#dial(target, purpose, purpose === 'basebackup' ? this.#session : newSession());
          // While it was dialled the orders may have changed, or Postgres may have gone.
          if (isSameTarget(this.#allowed, target) && !near.destroyed) return { far, purpose, target };
          far.destroy();
          problem = 'the primary changed while it was dialled';
        } catch (error) {
          problem = messageOf(error);
        }
      }
      if (near.destroyed || performance.now() > giveUpAt) throw new HandshakeError(problem);
      // Other orders are no failure of the dial that they ended.
      if (!isSameTarget(this.#allowed, target)) continue;
      if (target !== undefined) this.#say(problem, {});
      const pauseMs = performance.now() - this.#aimedAt < HURRY_MS ? REDIAL_MS : REDIAL_LATER_MS;
      await sleep(pauseMs, undefined, { signal: this.#changed.signal }).catch(() => undefined);
    }
  }

  /** Where it may lead at this moment. */
  get #allowed(): UpstreamTarget | undefined {
    const promised = this.#options.promisedEpoch?.() ?? 0;
    return this.#target !== undefined && this.#target.epoch >= promised ? this.#target : undefined;
  }

  async #carry(near: Socket, far: TLSSocket, purpose: TunnelPurpose, target: UpstreamTarget): Promise<void> {
    if (purpose === 'basebackup' || purpose === 'rewind') far.setTimeout(SILENT_COPY_MS, () => far.destroy());
    const wal = purpose === 'stream' ? new WalHeard() : undefined;
    const beginning: Buffer[] = [];
    let bytes = 0;
    await join(near, far, {
      onChunk: (chunk) => {
        this.#receivedBytes += chunk.length;
        if (wal?.push(chunk) === true) this.#walHeardAt = bootTimeMs();
        bytes += chunk.length;
        if (bytes <= MAX_REFUSAL_BYTES) beginning.push(chunk);
        else if (purpose === 'stream') this.#begun();
      },
    });
    if (purpose === 'stream' && bytes <= MAX_REFUSAL_BYTES) this.#ended(Buffer.concat(beginning), target);
  }

  #begun(): void {
    this.#lastProblem = '';
    this.#walRemovedCount = 0;
  }

  #ended(received: Buffer, { systemIdentifier = '' }: UpstreamTarget): void {
    const refusal = readRefusal(received);
    const theirs = readSystemIdentifier(received);
    this.#walRemovedCount = refusal?.sqlState === WAL_REMOVED ? this.#walRemovedCount + 1 : 0;
    if (refusal !== undefined) {
      this.#say(`the primary refuses to stream: ${refusal.message}`, { sqlState: refusal.sqlState });
    } else if (theirs !== undefined && systemIdentifier !== '' && theirs !== systemIdentifier) {
      this.#say(`the primary's database is another one: system identifier ${theirs}, here ${systemIdentifier}`, {});
    } else {
      this.#lastProblem = '';
    }
  }

  #say(problem: string, details: object): void {
    if (problem !== this.#lastProblem) this.#options.log.warn(details, problem);
    this.#lastProblem = problem;
  }

  #refuse(near: Socket, problem: string): void {
    if (problem !== this.#lastProblem) this.#options.log.warn({ reason: problem }, 'upstream: no tunnel');
    this.#lastProblem = problem;
    if (near.writable) near.end(fatalError('08001', `tunnel to the primary: ${problem}`));
  }

  async #dial(target: UpstreamTarget, purpose: TunnelPurpose, session: string): Promise<TLSSocket> {
    const { place, credentials } = this.#options;
    const socket = connectTls({
      ...secureContextOf(credentials()),
      host: target.address,
      port: target.port,
      checkServerIdentity: noHostNameCheck,
      rejectUnauthorized: true,
      ...HIGH_WATER_MARK,
    });
    socket.on('error', () => socket.destroy());
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    try {
      await secured(socket);
      socket.setNoDelay(true).setKeepAlive(true, STARTUP_TIMEOUT_MS);
      const peer = peerOf(socket, place);
      if (peer?.kind !== 'member' || peer.member !== target.to.name) {
        throw new HandshakeError(`the certificate at ${target.address} is not ${target.to.name}'s`);
      }
      const { shardUid, from, to, epoch, generation } = target;
      const hello: TunnelHello = { protocol: 1, purpose, session, shardUid, from, to, epoch, generation };
      socket.write(handshakeLine(hello));
      const reply = parseReply(await readLine(socket, STARTUP_TIMEOUT_MS));
      if (reply === undefined) throw new HandshakeError('no valid answer to the handshake');
      const problem = checkReply(hello, reply);
      if (problem !== undefined) throw new HandshakeError(problem);
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }
}

type Use = 'follow' | 'copy' | 'rewind';

function useOf(target: UpstreamTarget | undefined): Use {
  if (target?.isCloning === true) return 'copy';
  return target?.isRewinding === true ? 'rewind' : 'follow';
}

/** While a copy or a rewind is made everything belongs to it; otherwise only the WAL receiver asks for replication. */
function purposeOf(use: Use, startup: ReadonlyMap<string, string>): TunnelPurpose {
  if (use === 'copy') return 'basebackup';
  if (use === 'rewind') return 'rewind';
  return startup.has('replication') ? 'stream' : 'slotsync';
}

/** A new generation alone cuts no stream: it is stated anew with the next handshake. */
function isSameTarget(a: UpstreamTarget | undefined, b: UpstreamTarget | undefined): boolean {
  const comparable = (target: UpstreamTarget | undefined): string => JSON.stringify({ ...target, generation: 0 });
  return comparable(a) === comparable(b);
}

function secured(socket: TLSSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new HandshakeError('no connection in time')), CONNECT_TIMEOUT_MS);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new HandshakeError('the dial was given up'));
    });
  });
}

const newSession = (): string => randomBytes(8).toString('hex');

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
