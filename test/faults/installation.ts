/**
 * The shard that faults are tried on, as the tests see it: deployed in a namespace of its own, looked at through the API
 * server, written to through its routers. Clients connect to routers' pods at their own addresses, so that no fault of
 * the control plane (which carries Services' addresses on this machine) lies between client and router.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '#cluster/cluster.ts';
import { labels, memberPaths, routerName } from '#core/names.ts';
import { agentRole } from '#core/roles.ts';
import { connect, type Login, readLogin } from '../../demo/application.ts';
import { installOperator, meridianObjects, notReady, provideImages, systemNamespace } from '../../demo/installation.ts';
import { deleteNamespace, emptyNamespace } from '../e2e/example.ts';
import { type FinalState, finalStateSql, parseFinalState } from '../history/judges/final-state.ts';
import type { Door } from '../history/session.ts';
import { historyRole } from '../history/workload.ts';
import { faultManifests, regions, type ShardWish, shardName } from './manifests.ts';

const READY_TIMEOUT_MS = 400_000;
const LOOK_AGAIN_MS = 500;
const ROUTER_LOOKUP_MS = 2_000;

export interface Pod {
  readonly name: string;
  readonly node: string;
  readonly region: string;
  readonly address: string;
  readonly isReady: boolean;
}

export interface Authority {
  readonly epoch: number;
  readonly timeline: number;
  readonly member: string;
  readonly state: string;
  /** Names of the members on record. */
  readonly members: readonly string[];
}

interface ShardObject {
  readonly status?: {
    readonly authority?: Omit<Authority, 'members'>;
    readonly membership?: { readonly members: readonly { readonly name: string }[] };
  };
}

interface PodObject {
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: { readonly nodeName?: string };
  readonly status?: {
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

export class Installation {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly keyspace: string;
  readonly #wish: ShardWish;
  #login: Login | undefined;
  #routers: { readonly at: number; readonly pods: readonly Pod[] } = { at: Number.NEGATIVE_INFINITY, pods: [] };
  #lookup: Promise<unknown> | undefined;

  constructor(cluster: Cluster, wish: ShardWish) {
    this.cluster = cluster;
    this.#wish = wish;
    this.keyspace = wish.keyspace;
    this.namespace = `faults-${wish.keyspace}`;
  }

  /** The present code on the cluster, and this shard ready; quick when both are. */
  async deploy(tell: (what: string) => void, options: { readonly keepOperator?: boolean } = {}): Promise<void> {
    if (options.keepOperator !== true) {
      tell('images and operator');
      await installOperator(this.cluster, await provideImages(this.cluster));
    }
    tell('objects');
    await this.cluster.kubectl(
      ['apply', '-f', '-'],
      `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"${this.namespace}"}}`,
    );
    await this.cluster.kubectl(['apply', '-n', this.namespace, '-f', '-'], faultManifests(this.#wish));
    await this.settled(tell, READY_TIMEOUT_MS);
    this.#login = await readLogin(this.cluster, this.namespace, this.keyspace, historyRole);
  }

  async remove(): Promise<void> {
    await emptyNamespace(this.cluster, this.namespace).catch(() => {});
    await deleteNamespace(this.cluster, this.namespace);
  }

  kubectl(args: readonly string[], stdin?: string): Promise<string> {
    return this.cluster.kubectl(['-n', this.namespace, ...args], stdin);
  }

  /** All objects Ready, every region with a member on record, every member and router ready to serve. */
  async settled(tell: (what: string) => void, timeoutMs: number): Promise<void> {
    const giveUpAt = performance.now() + timeoutMs;
    for (;;) {
      const missing = await this.#missing().catch((error: unknown) => [`no answer: ${String(error).slice(0, 200)}`]);
      if (missing.length === 0) return;
      tell(`waits for ${missing.slice(0, 3).join('; ')}`);
      if (performance.now() > giveUpAt) {
        throw new Error(`not settled after ${Math.round(timeoutMs / 1000)} s: ${missing.join('; ')}`);
      }
      await sleep(LOOK_AGAIN_MS);
    }
  }

  async #missing(): Promise<string[]> {
    const objects = await meridianObjects(this.cluster, this.namespace);
    const missing = objects.map(notReady).filter((reason) => reason !== undefined);
    if (objects.length === 0) missing.push('any object');
    const authority = await this.authority();
    const members = await this.members();
    for (const region of regions) {
      const inRegion = members.filter((pod) => pod.region === region);
      if (!inRegion.some(({ isReady }) => isReady)) missing.push(`a member in ${region}`);
      if (!inRegion.some(({ name }) => authority?.members.includes(name) === true)) {
        missing.push(`a member of ${region} on record`);
      }
    }
    const routers = await this.routers();
    for (const region of regions) {
      if (!routers.some((pod) => pod.region === region && pod.isReady)) missing.push(`a router in ${region}`);
    }
    return missing;
  }

  async authority(): Promise<Authority | undefined> {
    const shard = JSON.parse(
      await this.kubectl(['get', 'shard', shardName(this.keyspace), '-o', 'json', '--request-timeout=5s']),
    ) as ShardObject;
    const { authority, membership } = shard.status ?? {};
    if (authority === undefined) return undefined;
    return { ...authority, members: (membership?.members ?? []).map(({ name }) => name) };
  }

  members(): Promise<Pod[]> {
    return this.#pods(`${labels.component}=member`);
  }

  async routers(): Promise<readonly Pod[]> {
    const pods = await this.#pods(`${labels.component}=router`);
    this.#routers = { at: performance.now(), pods };
    return pods;
  }

  /** Of the whole cluster, in whatever namespace the operator lives. */
  operators(): Promise<Pod[]> {
    return this.#pods(`${labels.component}=operator`, systemNamespace);
  }

  /** The name of the pod that leads among the operators; undefined when none does. */
  async leadingOperator(): Promise<string | undefined> {
    const lease = await this.cluster.kubectl([
      'get',
      'lease',
      'meridian-operator',
      '-n',
      systemNamespace,
      '-o',
      'jsonpath={.spec.holderIdentity}',
    ]);
    // Names of pods have no underscore; what follows one tells its lives apart.
    const [pod = ''] = lease.trim().split('_');
    return pod === '' ? undefined : pod;
  }

  /** A way in for clients: through the router of a region, wherever its pod is now. */
  door(region: string): Door {
    return {
      name: region,
      open: async () => {
        if (this.#login === undefined) throw new Error('not deployed yet');
        const find = (): Pod | undefined =>
          this.#routers.pods.find((pod) => pod.region === region && pod.address !== '' && pod.isReady);
        await this.#lookUpRouters();
        const pod = find();
        if (pod === undefined) throw new Error(`no router in ${region}`);
        const host = `${routerName(this.keyspace, region)}.${this.namespace}.svc`;
        return connect({ region, host, address: pod.address }, this.#login);
      },
    };
  }

  /** Once for all sessions that ask at the same time. While the API server is away, what was known of the routers goes on. */
  async #lookUpRouters(): Promise<void> {
    if (performance.now() - this.#routers.at < ROUTER_LOOKUP_MS) return;
    this.#lookup ??= this.routers()
      .catch(() => {
        this.#routers = { at: performance.now(), pods: this.#routers.pods };
      })
      .finally(() => {
        this.#lookup = undefined;
      });
    await this.#lookup;
  }

  /** What a member itself has, asked in its pod. */
  async finalStateOf(pod: string, run: number): Promise<FinalState> {
    const psql = ['psql', '-h', memberPaths.postgresSockets, '-U', agentRole, '-d', this.keyspace, '-XAtc'];
    const state = await this.kubectl(['exec', pod, '-c', 'postgres', '--', ...psql, finalStateSql(run)]);
    return parseFinalState(pod, state);
  }

  async finalStateThrough(region: string, run: number): Promise<FinalState> {
    const client = await this.door(region).open();
    try {
      const { rows } = await client.query<{ state: object }>(finalStateSql(run));
      return parseFinalState(`router in ${region}`, rows[0]?.state ?? {});
    } finally {
      await client.end();
    }
  }

  async #pods(selector: string, namespace = this.namespace): Promise<Pod[]> {
    const text = await this.cluster.kubectl([
      'get',
      'pods',
      '-n',
      namespace,
      '-l',
      selector,
      '-o',
      'json',
      '--request-timeout=5s',
    ]);
    const { items } = JSON.parse(text) as { items: readonly PodObject[] };
    return items
      .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
      .map(({ metadata, spec, status }) => ({
        name: metadata.name,
        node: spec.nodeName ?? '',
        region: this.cluster.nodes.find(({ name }) => name === spec.nodeName)?.region ?? '',
        address: status?.podIP ?? '',
        isReady: status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true,
      }));
  }
}
