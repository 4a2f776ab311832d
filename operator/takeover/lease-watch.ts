/**
 * The Kubernetes Lease of a shard whose commits nobody acknowledges (k = 0), as this replica has seen it.
 * Invariant: its age is counted on our own clock from when we first saw this very version (traps A14, B5); it is handed over
 * only by the version that was seen, so that a renewal of the holder's in between wins.
 */
import type { WatchedLease } from '#core/authority/fence.ts';
import { kubernetesLeaseMs } from '#core/authority/timing.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { authorityLeaseName } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { isConflict } from '#kube/errors.ts';
import { type Lease, leases } from '#kube/kinds.ts';
import type { ObjectReference, Stored } from '#kube/objects.ts';

const lookEveryMs = 1_000;

export class ShardLeaseWatch {
  readonly #api: KubeApi;
  readonly #reference: ObjectReference;
  readonly #nowMs: () => number;
  #lease: Stored<Lease> | undefined;
  #unchangedSinceMs: number | undefined;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

  constructor(api: KubeApi, shard: { readonly namespace: string; readonly name: string }, nowMs: () => number) {
    this.#api = api;
    this.#reference = { namespace: shard.namespace, name: authorityLeaseName(shard.name) };
    this.#nowMs = nowMs;
  }

  /** Undefined until it was looked at. */
  get watched(): WatchedLease | undefined {
    if (this.#unchangedSinceMs === undefined) return undefined;
    return { holder: this.#lease?.spec?.holderIdentity ?? '', unchangedSinceMs: this.#unchangedSinceMs };
  }

  /** As it is now: what a decision rests on. @throws ApiError */
  async lookAnew(): Promise<WatchedLease | undefined> {
    // A look under way was sent before now.
    await this.#looking?.catch(() => undefined);
    await this.#read();
    return this.watched;
  }

  /** Looks where the last look is a while ago. A failure leaves things as they were seen. */
  async look(): Promise<WatchedLease | undefined> {
    if (this.#nowMs() - this.#lookedAtMs >= lookEveryMs) {
      this.#looking ??= this.#read().finally(() => {
        this.#looking = undefined;
      });
      await this.#looking.catch(() => undefined);
    }
    return this.watched;
  }

  /**
   * With the epoch that is about to be decided: to the primary of any epoch below, the Lease is lost from then on, whatever
   * becomes of its holder. A conflict is no failure: it was renewed or handed over, and is looked at again. @throws ApiError
   */
  async hand(holder: MemberIdentity, epoch: number): Promise<void> {
    const now = new Date().toISOString().replace('Z', '000Z');
    const spec = {
      holderIdentity: replicationName(holder),
      leaseDurationSeconds: kubernetesLeaseMs / 1000,
      leaseTransitions: epoch,
      acquireTime: now,
      renewTime: now,
    };
    const client = this.#api.of(leases);
    const present = this.#lease;
    try {
      this.#note(
        present === undefined
          ? await client.create({
              apiVersion: 'coordination.k8s.io/v1',
              kind: 'Lease',
              metadata: this.#reference,
              spec,
            })
          : await client.update({ ...present, spec: { ...present.spec, ...spec } }),
      );
    } catch (error) {
      this.#lookedAtMs = Number.NEGATIVE_INFINITY;
      if (!isConflict(error)) throw error;
    }
  }

  async #read(): Promise<void> {
    const lease = await this.#api.of(leases).find(this.#reference);
    this.#note(lease);
  }

  #note(lease: Stored<Lease> | undefined): void {
    const nowMs = this.#nowMs();
    const isSame = lease?.metadata.resourceVersion === this.#lease?.metadata.resourceVersion;
    if (!isSame || this.#unchangedSinceMs === undefined) this.#unchangedSinceMs = nowMs;
    this.#lease = lease;
    this.#lookedAtMs = nowMs;
  }
}
