/**
 * The follower's side of the lease: dials the one primary that the promise names, and grants what it asks for at exactly the
 * promised epoch, whatever its generation (while a membership changes the primary may be a step behind or ahead). Dials
 * again at once when the connection ends, or when no question has come for a second.
 * Invariants: a grant is noted before it is sent; after `aim` has returned nothing more is granted to whoever was aimed at
 * before. That the promise is on disk first is the caller's business.
 * Source: docs/design.md, section 4, "Lease (k >= 1)"; docs/design-traps.md, A7.
 */
import { connect, type TLSSocket } from 'node:tls';
import { type Credentials, secureContextOf } from '#agent/tls/credentials.ts';
import { noHostNameCheck, type Place, peerOf } from '#agent/tls/peer.ts';
import { leaseMs } from '#core/authority/timing.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import { SILENCE_MS } from './asking.ts';
import type { FollowWish, LeaseLog } from './messages.ts';
import { fromPrimarySchema, type LeaseRequest, LineReader, lineOf, parseLine } from './wire.ts';

export interface GrantingOptions {
  readonly place: Place;
  readonly credentials: () => Credentials;
  readonly identity: () => MemberIdentity;
  /** Notes a grant of this length from now on, before it is sent. */
  readonly note: (grantMs: number) => void;
  /** The primary has said that it serves. */
  readonly heardServing: () => void;
  readonly log: LeaseLog;
}

const CONNECT_TIMEOUT_MS = 1_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 400;
const MAX_WAITING_BYTES = 16_384;

export class Granting {
  readonly #options: GrantingOptions;
  #target: FollowWish | undefined;
  #socket: TLSSocket | undefined;
  #retry: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #lastProblem = '';

  constructor(options: GrantingOptions) {
    this.#options = options;
  }

  aim(target: FollowWish | undefined): void {
    const isSame = this.#target !== undefined && target !== undefined && isSameTarget(this.#target, target);
    this.#target = target;
    if (isSame) return;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#lastProblem = '';
    this.#pauseMs = FIRST_PAUSE_MS;
    if (target !== undefined) this.#dial(target);
  }

  /** Who we are has changed: what was said under the old name ends here. */
  identityChanged(): void {
    const target = this.#target;
    this.aim(undefined);
    this.aim(target);
  }

  #dial(target: FollowWish): void {
    const { source, shardUid, epoch, generation } = target;
    const { place, credentials, identity } = this.#options;
    const socket = connect({
      ...secureContextOf(credentials()),
      host: source.address,
      port: source.port ?? ports.lease,
      checkServerIdentity: noHostNameCheck,
      rejectUnauthorized: true,
    });
    this.#socket = socket;
    socket.setNoDelay(true);
    let problem = '';
    const give = (why: string): void => {
      problem = problem === '' ? why : problem;
      socket.destroy();
    };
    let silence = setTimeout(() => give('no connection in time'), CONNECT_TIMEOUT_MS);
    socket.on('error', (error) => give(error.message));
    socket.once('close', () => {
      clearTimeout(silence);
      if (this.#socket === socket) this.#again(problem);
    });
    socket.once('secureConnect', () => {
      const peer = peerOf(socket, place);
      if (peer?.kind !== 'member' || peer.member !== source.name) {
        give(`the certificate at ${source.address} is not ${source.name}'s`);
        return;
      }
      const { name, incarnation } = source;
      socket.write(lineOf({ protocol: 1, shardUid, from: identity(), to: { name, incarnation }, epoch, generation }));
    });
    const lines = new LineReader();
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk) ?? ['']) {
        if (this.#socket !== socket || socket.destroyed) return;
        const said = parseLine(fromPrimarySchema, line);
        if (said === undefined) return give('what the primary says is no request');
        if (said.type === 'refused') return give(`the primary refuses: ${said.message}`);
        clearTimeout(silence);
        silence = setTimeout(() => give('the primary has asked nothing for a while'), SILENCE_MS);
        const refusal = this.#grant(socket, said);
        if (refusal !== undefined) return give(refusal);
      }
    });
  }

  #grant(socket: TLSSocket, { epoch, generation, n, serving }: LeaseRequest): string | undefined {
    const { note, heardServing, log } = this.#options;
    if (epoch !== this.#target?.epoch) return `the primary asks at epoch ${epoch}`;
    if (socket.writableLength > MAX_WAITING_BYTES) return 'the primary takes no answers';
    if (serving) heardServing();
    note(leaseMs);
    socket.write(lineOf({ type: 'grant', epoch, generation, n, leaseMs }));
    if (this.#pauseMs !== 0) log.info({ to: this.#target.source, epoch }, 'lease: granted to the primary');
    this.#pauseMs = 0;
    this.#lastProblem = '';
    return undefined;
  }

  /** At once after a connection that was of use, then less and less often. */
  #again(problem: string): void {
    this.#socket = undefined;
    if (problem !== this.#lastProblem) {
      this.#options.log.warn({ primary: this.#target?.source, problem }, 'lease: no contact with the primary');
    }
    this.#lastProblem = problem;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, pauseMs * 2));
    this.#retry = setTimeout(() => {
      if (this.#target !== undefined) this.#dial(this.#target);
    }, pauseMs);
  }
}

/** A new generation alone is no reason to hang up. */
const isSameTarget = (a: FollowWish, b: FollowWish): boolean =>
  JSON.stringify({ ...a, generation: 0 }) === JSON.stringify({ ...b, generation: 0 });
