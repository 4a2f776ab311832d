/**
 * The agent's leases as its main thread sees them: what is wished goes to the lease thread (worker.ts), how things stand is
 * read from shared memory, so that an answer is fresh whatever either thread is doing.
 * A lease thread that ends without being asked to ends the agent: nobody would keep the lease, or the promise of a grant.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from '#agent/log.ts';
import type { Credentials } from '#agent/tls/credentials.ts';
import type { Place } from '#agent/tls/peer.ts';
import { bootTimeMs, bootTimeResolutionMs } from '#clock/boot-time.ts';
import { leaseMs } from '#core/authority/timing.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { LeaseMemory } from './memory.ts';
import type {
  FollowWish,
  FromThread,
  GrantSeen,
  KubernetesLeasePlace,
  LeaseThreadOptions,
  ServeWish,
  Wish,
} from './messages.ts';

export interface LeaseKeeperOptions {
  /** 0: any. */
  readonly port: number;
  readonly host?: string;
  readonly place: Place;
  readonly credentials: Credentials;
  readonly identity: MemberIdentity;
  /** `handleDescriptor()`; without one nothing but this agent ends its Postgres. */
  readonly handle: number | undefined;
  /** Where the Kubernetes Lease of k = 0 is; without it that lease is never held. */
  readonly kubernetes?: KubernetesLeasePlace;
  /** Of the promise: how long a grant given before this start may still run. */
  readonly longestLeaseMs: number;
  /** Puts it on disk; awaited before the first grant that is longer than all before. */
  readonly persistLongestLease: (longestLeaseMs: number) => Promise<unknown>;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** The settings aren't fulfilled yet; they are worked towards all the same. */
export class LeaseNotInForce extends Error {
  override readonly name = 'LeaseNotInForce';
}

const IN_FORCE_MS = 1_500;
const ANSWER_MS = 5_000;
const GRANTS_MS = 250;

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #worker: Worker;
  readonly #memory: LeaseMemory;
  readonly #startedAtMs = bootTimeMs();
  readonly #pending = new Map<number, Pending>();
  #id = 0;
  #port = 0;
  #longestLeaseMs: number;
  #grants: readonly GrantSeen[] = [];
  #onLost: (reason: string) => void = () => {};
  #isClosing = false;

  private constructor(options: LeaseKeeperOptions, worker: Worker, memory: LeaseMemory) {
    this.#options = options;
    this.#worker = worker;
    this.#memory = memory;
    this.#longestLeaseMs = options.longestLeaseMs;
  }

  /** Resolves when it listens. */
  static async start(options: LeaseKeeperOptions): Promise<LeaseKeeper> {
    const memory = new LeaseMemory();
    const { port, host, place, credentials, identity, handle, kubernetes } = options;
    const data: LeaseThreadOptions = {
      port,
      host,
      place,
      credentials,
      identity,
      handle,
      kubernetes,
      memory: memory.buffer,
    };
    const worker = new Worker(threadFile(), { workerData: data, name: 'lease' });
    const keeper = new LeaseKeeper(options, worker, memory);
    try {
      await keeper.#begin();
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    return keeper;
  }

  /** Where it listens. */
  get port(): number {
    return this.#port;
  }

  renewCredentials(credentials: Credentials): void {
    this.#wish({ kind: 'credentials', credentials });
  }

  renewIdentity(identity: MemberIdentity): void {
    this.#wish({ kind: 'identity', identity });
  }

  /**
   * As primary: asks those who dial in, at this epoch and generation. Level-triggered. Resolves when the settings are in
   * force: at once where no lease is held now; otherwise the ones before stay in force until these are fulfilled.
   * @throws LeaseNotInForce when that takes longer than 1.5 s; it goes on being worked towards, and the same wish again
   * resolves once it is so.
   */
  async serve(wish: ServeWish): Promise<void> {
    const inForce = this.#ask({ kind: 'serve', wish }, IN_FORCE_MS);
    await inForce.catch((error: unknown) => {
      if (!(error instanceof NoAnswer)) throw error;
      throw new LeaseNotInForce(
        `the lease of generation ${wish.generation} isn't held yet: the one before stays in force meanwhile`,
      );
    });
  }

  /** As follower: dials this primary and grants to it alone, at this epoch alone. The promise must be on disk. */
  async follow(wish: FollowWish): Promise<void> {
    if (leaseMs > this.#longestLeaseMs) {
      await this.#options.persistLongestLease(leaseMs);
      this.#longestLeaseMs = leaseMs;
    }
    await this.#ask({ kind: 'follow', wish });
  }

  /** Neither asks nor grants. Resolves once nothing more is granted, to how long what was granted may still run. */
  async stop(): Promise<{ readonly grantRemainingMs: number }> {
    await this.#ask({ kind: 'stop' });
    return { grantRemainingMs: this.grantRemainingMs() };
  }

  /** What the questions say. It holds for 2 s, so it has to be said again and again: with every canary. */
  setServing(serving: boolean): void {
    this.#memory.sayServing(serving);
  }

  /** Until the lease runs out, its margin taken off; null where none is needed, 0 where it isn't held. */
  remainingMs(): number | null {
    return this.#memory.remainingMs(this.#memory.lease().untilMs);
  }

  /** How often it was lost since this agent started. */
  leaseNumber(): number {
    return this.#memory.lease().number;
  }

  /** Held now, by grants of exactly this epoch and generation. */
  isHeldFor(epoch: number, generation: number): boolean {
    const lease = this.#memory.lease();
    if (lease.epoch !== epoch || lease.generation !== generation) return false;
    return this.#memory.remainingMs(lease.exactUntilMs) !== 0;
  }

  /** Since the last question that said serving; null where none came since this start. */
  heardMs(): { readonly servingMs: number | null } {
    return { servingMs: this.#memory.heardServingMs() };
  }

  /** For how long any grant may still run that this member gave, also before this start (docs/design-traps.md, A7). */
  grantRemainingMs(): number {
    const ageMs = bootTimeMs() - this.#startedAtMs - bootTimeResolutionMs;
    return Math.max(this.#memory.grantedMs(), this.#options.longestLeaseMs - ageMs, 0);
  }

  /**
   * The dead man's handle: from here on process 1 ends everything when a lease that was held runs out and isn't renewed. To
   * be called before Postgres starts as primary, or is promoted. `postmasterPid`: 0 while there is none.
   */
  arm(postmasterPid: number): Promise<void> {
    return this.#ask({ kind: 'arm', postmasterPid });
  }

  setPostmaster(postmasterPid: number): void {
    this.#wish({ kind: 'postmaster', postmasterPid });
  }

  /** Only when no process of Postgres is left, or it is no primary. */
  disarm(): Promise<void> {
    return this.#ask({ kind: 'disarm' });
  }

  /** Of a primary, by the followers that it has grants of; those of the last look where the thread is too busy to say. */
  async grants(): Promise<readonly GrantSeen[]> {
    await this.#ask({ kind: 'grants' }, GRANTS_MS).catch(() => undefined);
    return this.#grants;
  }

  /** Told once for each loss of an armed lease, 650 ms before it runs out; 50 ms later process 1 acts by itself. */
  onLost(callback: (reason: string) => void): void {
    this.#onLost = callback;
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#ask({ kind: 'close' });
    await this.#worker.terminate();
  }

  #begin(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.on('message', (message: FromThread) => {
        if (message.kind === 'failed') reject(new Error(`lease port: ${message.message}`));
        if (message.kind === 'listening') {
          this.#port = message.port;
          this.#worker.off('error', reject);
          this.#worker.on('exit', (code) => {
            if (!this.#isClosing) throw new Error(`the lease thread has ended (${code})`);
          });
          resolve();
        }
        this.#hear(message);
      });
    });
  }

  #hear(message: FromThread): void {
    switch (message.kind) {
      case 'done': {
        const pending = this.#pending.get(message.id);
        this.#pending.delete(message.id);
        if (message.problem === undefined) pending?.resolve();
        else pending?.reject(new Error(message.problem));
        return;
      }
      case 'grants':
        this.#grants = message.grants;
        return;
      case 'lost':
        this.#onLost(message.reason);
        return;
      case 'log':
        this.#options.log[message.level](message.details, message.message);
        return;
      case 'listening':
      case 'failed':
        return;
    }
  }

  #wish(wish: Wish): void {
    this.#ask(wish).catch((error: unknown) => this.#options.log.error({ err: error }, `lease: ${wish.kind} failed`));
  }

  #ask(wish: Wish, timeoutMs = ANSWER_MS): Promise<void> {
    this.#id += 1;
    const id = this.#id;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new NoAnswer(`the lease thread doesn't answer: ${wish.kind}`));
      }, timeoutMs);
      const settle = (then: () => void): void => {
        clearTimeout(timer);
        then();
      };
      this.#pending.set(id, { resolve: () => settle(resolve), reject: (error) => settle(() => reject(error)) });
      this.#worker.postMessage({ ...wish, id });
    });
  }
}

class NoAnswer extends Error {}

/** Beside this file as source; in an image each of the agent's threads is one bundle (images/build.ts). */
function threadFile(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './agent-lease.mjs', import.meta.url);
}
