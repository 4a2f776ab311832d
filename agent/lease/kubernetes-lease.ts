/**
 * The Kubernetes Lease that a primary without acknowledging followers (k = 0) stands by: taken, renewed every 2 s, given up
 * when nothing of the primary is left. Its holder is `name/incarnation`; its `leaseTransitions` are the epoch of the
 * authority that it was taken for.
 * Invariants: held for the Lease's duration from before the request was *sent*; every write carries the resourceVersion that
 * was read; another's Lease of the same epoch is taken only after it was *seen* unchanged for its whole duration on our own
 * clock, one of an earlier epoch at once (the epoch was decided only after that authority had ended), one of a later epoch
 * never, not even by its holder. Whoever decides hands it over by naming the new holder, which then finds it its own.
 * Source: Kubernetes documentation, "Leases"; docs/design-traps.md, A14, B5.
 */
import { Agent } from 'node:https';
import { z } from 'zod';
import { askApiServer } from '#agent/api-server.ts';
import { kubernetesLeaseMs, leaseMarginMs } from '#core/authority/timing.ts';
import type { KubernetesLeasePlace, LeaseLog } from './messages.ts';

const leaseSchema = z.looseObject({
  metadata: z.looseObject({ resourceVersion: z.string() }),
  spec: z
    .looseObject({
      holderIdentity: z.string().nullish(),
      leaseDurationSeconds: z.number().nullish(),
      leaseTransitions: z.number().nullish(),
      renewTime: z.string().nullish(),
      acquireTime: z.string().nullish(),
    })
    .optional(),
});
export type KubernetesLeaseObject = z.infer<typeof leaseSchema>;

export interface LeaseClaim {
  /** `name/incarnation`. */
  readonly holder: string;
  readonly epoch: number;
}

export type LeaseStep =
  | { readonly kind: 'Write'; readonly isFirst: boolean }
  | { readonly kind: 'Wait' | 'Lost'; readonly reason: string };

/** What to do about the Lease as it was read. `unchangedMs`: for how long it has been seen just so. */
export function decideLease(
  lease: KubernetesLeaseObject | undefined,
  { holder, epoch }: LeaseClaim,
  unchangedMs: number,
): LeaseStep {
  const present = lease?.spec?.holderIdentity ?? '';
  const theirs = lease?.spec?.leaseTransitions ?? 0;
  if (theirs > epoch) return { kind: 'Lost', reason: `the Lease is of epoch ${theirs} already` };
  if (present === holder) return { kind: 'Write', isFirst: theirs !== epoch };
  if (present === '' || theirs < epoch) return { kind: 'Write', isFirst: true };
  const durationMs = Math.max(kubernetesLeaseMs, (lease?.spec?.leaseDurationSeconds ?? 0) * 1_000);
  if (unchangedMs > durationMs) return { kind: 'Write', isFirst: true };
  return { kind: 'Wait', reason: `${present} holds the Lease of this epoch` };
}

export interface KubernetesLeaseOptions {
  readonly place: KubernetesLeasePlace;
  /** Milliseconds since boot. */
  readonly now: () => number;
  /** Ours until then; 0: somebody else's, or of a later epoch. */
  readonly onHeld: (untilMs: number) => void;
  readonly log: LeaseLog;
}

const RENEW_EVERY_MS = 2_000;
const TRY_AGAIN_MS = 1_000;
const TIMEOUT_MS = 3_000;
const MAX_ANSWER_BYTES = 256 * 1024;

export class KubernetesLease {
  readonly #options: KubernetesLeaseOptions;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #url: string;
  #claim: LeaseClaim | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** One request at a time. */
  #queue: Promise<void> = Promise.resolve();
  /** As last read or written by us, and since when it has been seen so. */
  #seen: { readonly lease: KubernetesLeaseObject; readonly atMs: number } | undefined;
  #isOurs = false;
  #lastProblem = '';

  constructor(options: KubernetesLeaseOptions) {
    this.#options = options;
    this.#url = `/apis/coordination.k8s.io/v1/namespaces/${options.place.namespace}/leases`;
  }

  /** Takes and keeps it; undefined: lets it run out. */
  claim(claim: LeaseClaim | undefined): void {
    const isSame = claim?.holder === this.#claim?.holder && claim?.epoch === this.#claim?.epoch;
    if (isSame) return;
    this.#claim = claim;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (claim !== undefined) this.#turn();
  }

  /** When nothing is left that stands by it. Does nothing where it isn't ours. */
  async release(): Promise<void> {
    this.claim(undefined);
    this.#queue = this.#queue.then(() => this.#giveUp());
    await this.#queue;
  }

  close(): void {
    this.claim(undefined);
    this.#agent.destroy();
  }

  #turn(): void {
    this.#queue = this.#queue.then(async () => {
      const claim = this.#claim;
      if (claim === undefined) return;
      const isHeld = await this.#attempt(claim).catch((error: unknown) => {
        this.#say(error instanceof Error ? error.message : String(error));
        return false;
      });
      // Whatever the answer was to, the next turn belongs to whoever claims then.
      if (this.#claim !== claim) return;
      this.#timer = setTimeout(() => this.#turn(), isHeld ? RENEW_EVERY_MS : TRY_AGAIN_MS);
    });
  }

  async #attempt(claim: LeaseClaim): Promise<boolean> {
    const { place, now, onHeld, log } = this.#options;
    // A renewal goes by what we wrote ourselves; everything else by a fresh look.
    const lease = this.#isOurs ? this.#seen?.lease : await this.#read();
    const unchangedMs = this.#seen === undefined ? 0 : now() - this.#seen.atMs;
    const step = decideLease(lease, claim, unchangedMs);
    if (step.kind !== 'Write') {
      onHeld(0);
      this.#say(step.reason);
      return false;
    }
    const sentAtMs = now();
    const written = await this.#write(lease, claim, step.isFirst);
    if (written === undefined) {
      // Somebody else wrote, or we did and never got the answer: the next look will tell.
      this.#isOurs = false;
      return false;
    }
    this.#isOurs = true;
    this.#seen = { lease: written, atMs: now() };
    if (this.#claim === claim) onHeld(sentAtMs + kubernetesLeaseMs - leaseMarginMs);
    if (step.isFirst) log.info({ lease: place.name, epoch: claim.epoch }, 'lease: the Kubernetes Lease is ours');
    this.#lastProblem = '';
    return true;
  }

  async #giveUp(): Promise<void> {
    const { lease } = this.#seen ?? {};
    if (!this.#isOurs || lease === undefined) return;
    this.#isOurs = false;
    const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime(new Date()) };
    await this.#send('PUT', `/${this.#options.place.name}`, { ...lease, spec }).catch((error: unknown) => {
      this.#say(error instanceof Error ? error.message : String(error));
    });
  }

  async #read(): Promise<KubernetesLeaseObject | undefined> {
    const { place, now } = this.#options;
    const { status, body } = await this.#send('GET', `/${place.name}`);
    if (status === 404) return undefined;
    if (status !== 200) throw new Error(`the API server answers ${status} to a look at the Lease ${place.name}`);
    const lease = leaseSchema.parse(body);
    if (this.#seen?.lease.metadata.resourceVersion !== lease.metadata.resourceVersion) {
      this.#seen = { lease, atMs: now() };
    }
    return lease;
  }

  async #write(
    lease: KubernetesLeaseObject | undefined,
    { holder, epoch }: LeaseClaim,
    isFirst: boolean,
  ): Promise<KubernetesLeaseObject | undefined> {
    const { namespace, name } = this.#options.place;
    const time = microTime(new Date());
    const spec = {
      ...lease?.spec,
      holderIdentity: holder,
      leaseDurationSeconds: kubernetesLeaseMs / 1_000,
      leaseTransitions: epoch,
      renewTime: time,
      ...(isFirst ? { acquireTime: time } : {}),
    };
    const { status, body } =
      lease === undefined
        ? await this.#send('POST', '', {
            apiVersion: 'coordination.k8s.io/v1',
            kind: 'Lease',
            metadata: { namespace, name },
            spec,
          })
        : await this.#send('PUT', `/${name}`, { ...lease, spec });
    if (status === 200 || status === 201) return leaseSchema.parse(body);
    if (status === 409) return undefined;
    throw new Error(`the API server answers ${status} to a renewal of the Lease ${name}`);
  }

  async #send(method: string, path: string, body?: object): Promise<{ status: number; body: unknown }> {
    const answer = await askApiServer(this.#options.place, {
      method,
      path: this.#url + path,
      body,
      agent: this.#agent,
      timeoutMs: TIMEOUT_MS,
      maxAnswerBytes: MAX_ANSWER_BYTES,
    });
    return { status: answer.status, body: parseJson(answer.body) };
  }

  #say(problem: string): void {
    if (problem !== this.#lastProblem) {
      this.#options.log.warn(
        { lease: this.#options.place.name, problem },
        'lease: the Kubernetes Lease is not renewed',
      );
    }
    this.#lastProblem = problem;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** metav1.MicroTime: six digits after the second. */
const microTime = (time: Date): string => time.toISOString().replace('Z', '000Z');
