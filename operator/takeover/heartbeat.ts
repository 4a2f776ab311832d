/**
 * Who of the operator's replicas is alive, and in which order they come: each renews a Lease under its pod's name every 2 s
 * and watches the others'. A heartbeat also says which shards in trouble its replica could fail over (trap A16).
 * Invariant: another's heartbeat is judged by when *we* saw it change, never by comparing clocks; and nothing here is needed
 * for safety, so every failure is only told.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { labels, managedByValue } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { isConflict } from '#kube/errors.ts';
import { type Lease, leases } from '#kube/kinds.ts';
import type { Stored } from '#kube/objects.ts';

const beatEveryMs = 2_000;
const freshMs = 6_000;
const heartbeatComponent = 'operator-heartbeat';
const reachesAnnotation = 'meridian.db/reaches';
/** An annotation is small: of very many shards in trouble, some are enough to decide who leads better. */
const maxShardsTold = 100;

export interface HeartbeatOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  /** Name of the installation's leader Lease: what tells its replicas from those of another in the namespace. */
  readonly installation: string;
  readonly pod: { readonly name: string; readonly uid: string };
  /** The pod that leads, as far as we know. */
  readonly leader: () => string | undefined;
  /** Shards in trouble (`namespace/name`) that this replica could fail over now. */
  readonly reaches: () => readonly string[];
  readonly nowMs: () => number;
  readonly onTrouble?: (error: unknown) => void;
}

interface Seen {
  readonly resourceVersion: string;
  /** When we saw it change, or for the first time. */
  readonly atMs: number;
  readonly reaches: ReadonlySet<string>;
}

export class Heartbeats {
  readonly #options: HeartbeatOptions;
  readonly #others = new Map<string, Seen>();
  #own: Stored<Lease> | undefined;
  #soon: AbortController | undefined;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const done = [this.#beat(), this.#look()];
      await Promise.all(done.map((each) => each.catch((error: unknown) => this.#options.onTrouble?.(error))));
      this.#soon = new AbortController();
      const until = AbortSignal.any([signal, this.#soon.signal]);
      await sleep(beatEveryMs, undefined, { signal: until }).catch(() => undefined);
    }
    await this.#leave().catch((error: unknown) => this.#options.onTrouble?.(error));
  }

  /** What this replica reaches has changed: the others should know before the next beat is due. */
  beatSoon(): void {
    this.#soon?.abort();
  }

  /** 0 for the first to act: the leader, then the others by name. Those that weren't heard of lately don't count. */
  get rank(): number {
    const { pod, leader } = this.#options;
    const leading = leader();
    const order = [pod.name, ...this.#fresh().map(([name]) => name)].toSorted(
      (a, b) => Number(b === leading) - Number(a === leading) || (a < b ? -1 : 1),
    );
    return order.indexOf(pod.name);
  }

  /** Another replica leads, and was heard of lately. */
  get isLedByAnother(): boolean {
    const leading = this.#options.leader();
    return this.#fresh().some(([name]) => name === leading);
  }

  /** Other replicas that say now that they could fail this shard over. */
  othersReaching(shard: string): readonly string[] {
    return this.#fresh()
      .filter(([, { reaches }]) => reaches.has(shard))
      .map(([name]) => name);
  }

  #fresh(): readonly (readonly [string, Seen])[] {
    const nowMs = this.#options.nowMs();
    return [...this.#others].filter(([, { atMs }]) => nowMs - atMs <= freshMs);
  }

  async #beat(): Promise<void> {
    const { api, namespace, pod } = this.#options;
    const client = api.of(leases);
    try {
      this.#own ??= await client.find({ namespace, name: pod.name });
      const wished = this.#wish(this.#own);
      this.#own = this.#own === undefined ? await client.create(wished) : await client.update(wished);
    } catch (error) {
      // Of whatever kind: what is there is read again before the next.
      this.#own = undefined;
      if (!isConflict(error)) throw error;
    }
  }

  /** Told to end: the others need not find out, and wait for a rank that nobody has any more. */
  async #leave(): Promise<void> {
    const client = this.#options.api.of(leases);
    const { namespace, pod } = this.#options;
    const present = await client.find({ namespace, name: pod.name });
    if (present?.spec === undefined) return;
    await client.update({ ...present, spec: { ...present.spec, holderIdentity: '' } });
  }

  #wish(present: Stored<Lease> | undefined): Lease {
    const { namespace, installation, pod, reaches } = this.#options;
    const now = new Date().toISOString().replace('Z', '000Z');
    const owner = { apiVersion: 'v1', kind: 'Pod', name: pod.name, uid: pod.uid };
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        namespace,
        name: pod.name,
        labels: {
          [labels.managedBy]: managedByValue,
          [labels.component]: heartbeatComponent,
          'app.kubernetes.io/instance': installation,
        },
        annotations: { [reachesAnnotation]: reaches().slice(0, maxShardsTold).join(' ') },
        // Gone with its pod.
        ...(pod.uid === '' ? {} : { ownerReferences: [owner] }),
        ...(present === undefined ? {} : { resourceVersion: present.metadata.resourceVersion }),
      },
      spec: { holderIdentity: pod.name, leaseDurationSeconds: Math.round(freshMs / 1000), renewTime: now },
    };
  }

  async #look(): Promise<void> {
    const { api, namespace, installation, pod, nowMs } = this.#options;
    const { items } = await api.of(leases).list({
      namespace,
      labelSelector: `${labels.component}=${heartbeatComponent},app.kubernetes.io/instance=${installation}`,
    });
    const names = new Set(items.map(({ metadata }) => metadata.name));
    for (const name of this.#others.keys()) if (!names.has(name)) this.#others.delete(name);
    for (const { metadata, spec } of items) {
      const { name, resourceVersion, annotations } = metadata;
      if (name === pod.name || this.#others.get(name)?.resourceVersion === resourceVersion) continue;
      const reaches = new Set((annotations?.[reachesAnnotation] ?? '').split(' ').filter((key) => key !== ''));
      const hasLeft = spec?.holderIdentity === '';
      this.#others.set(name, { resourceVersion, atMs: hasLeft ? Number.NEGATIVE_INFINITY : nowMs(), reaches });
    }
  }
}
