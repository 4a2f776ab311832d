/**
 * Does what the plan says: certificates, router objects, role Secrets, and the shards. Decides nothing.
 * Invariant: passwords and verifiers are read from Secrets where they are used, and leave this folder only towards Postgres and
 * the API server; no error made here holds one.
 */
import {
  labels,
  managedByValue,
  operatorTlsSecretName,
  routerName,
  routerTlsSecretName,
  tokenKeysSecretName,
} from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import {
  deployments,
  networkPolicies,
  podDisruptionBudgets,
  type ResourceType,
  roleBindings,
  roles,
  secrets,
  serviceAccounts,
  services,
} from '#kube/kinds.ts';
import type { Keyspace } from '#kube/meridian.ts';
import { controllerReference, type KubeObject, type Stored } from '#kube/objects.ts';
import { type AcceptedVerifiers, acceptedVerifiers } from '#operator/passwords/role-password.ts';
import { readRolePassword } from '#operator/passwords/secret-fields.ts';
import { type CertificateWish } from '#operator/pki/leaf.ts';
import { ensureCertificateSecret, ensureKeyspaceCa } from '#operator/pki/secrets.ts';
import { ensureTokenKeys } from '#operator/pki/token-keys.ts';
import { Applier } from '#operator/resources/applier.ts';
import { selectorText } from '#operator/resources/member-labels.ts';
import { routerComponent } from '#operator/resources/router/wish.ts';
import type { ActContext } from '#operator/runtime/controller.ts';
import type { CertificatesOutcome, KeyspaceAction, RouterObject, SetUpOutcome, SetUpShards } from './actions.ts';
import { operatorCredentials, operatorCredentialsReference } from './credentials.ts';
import { ensureRoleSecret } from './ensure-role-secret.ts';
import { ShardLedger } from './ledger.ts';
import { roleSecretLabels } from './role-secret.ts';
import { setUpShards } from './set-up-shards.ts';
import { openShardSession } from './shard-session.ts';

type Context = ActContext<Keyspace>;

/** Kinds of router objects, by their `kind`. */
const routerKinds: Readonly<Record<string, ResourceType>> = Object.fromEntries(
  [deployments, networkPolicies, podDisruptionBudgets, roles, roleBindings, services, serviceAccounts].map((type) => [
    type.kind,
    type,
  ]),
);

export class KeyspaceActor {
  readonly #kube: KubeApi;
  readonly #applier: Applier;
  readonly #ledger = new ShardLedger();

  constructor(kube: KubeApi) {
    this.#kube = kube;
    this.#applier = new Applier(kube);
  }

  async act(action: KeyspaceAction, context: Context): Promise<unknown> {
    const namespace = context.object.metadata.namespace ?? '';
    const keyspace = context.object.metadata.name;
    switch (action.kind) {
      case 'ensureCertificates':
        return this.#ensureCertificates(context.object, action.routerDnsNames);
      case 'recordOrdinals':
        return context.recordStatus({ shards: [...action.shards], nextOrdinal: action.nextOrdinal });
      case 'ensureRoleSecret':
        return ensureRoleSecret(this.#kube, this.#ledger, context.object, action);
      case 'setUpShards':
        return this.#setUpShards(action, context);
      case 'applyRouterObject':
        return this.#applyRouterObject(action.object, context);
      case 'deleteRouter':
        return this.#deleteRouter(namespace, keyspace, action.region);
      case 'deleteSecret':
        return this.#kube.of(secrets).delete({ namespace, name: action.name });
    }
  }

  async #ensureCertificates(
    keyspace: Stored<Keyspace>,
    routerDnsNames: readonly string[],
  ): Promise<CertificatesOutcome> {
    const now = new Date();
    const { namespace = '', name } = keyspace.metadata;
    const ca = await ensureKeyspaceCa(this.#kube, keyspace, now);
    const metadata = (secret: string, component: string) => ({
      name: secret,
      namespace,
      labels: { [labels.managedBy]: managedByValue, [labels.component]: component, [labels.keyspace]: name },
      ownerReferences: [controllerReference(keyspace)],
    });
    const router: CertificateWish = {
      identity: { kind: 'router', namespace, keyspace: name },
      dnsNames: routerDnsNames,
      ipAddresses: ['127.0.0.1'],
    };
    const operator: CertificateWish = {
      identity: { kind: 'operator', namespace, keyspace: name },
      dnsNames: [],
      ipAddresses: [],
    };
    const wishes = [
      { metadata: metadata(routerTlsSecretName(name), routerComponent), certificate: router },
      { metadata: metadata(operatorTlsSecretName(name), 'operator'), certificate: operator },
    ];
    await ensureTokenKeys(this.#kube, metadata(tokenKeysSecretName(name), routerComponent));
    const renewed: string[] = [];
    let earliestNotAfterMs = Number.POSITIVE_INFINITY;
    for (const wish of wishes) {
      const { notAfter, issued } = await ensureCertificateSecret(this.#kube, ca, wish, now);
      earliestNotAfterMs = Math.min(earliestNotAfterMs, notAfter.getTime());
      if (issued !== undefined) renewed.push(`${wish.metadata.name}: ${issued}`);
    }
    return { renewed, earliestNotAfterMs };
  }

  async #setUpShards(action: SetUpShards, context: Context): Promise<SetUpOutcome> {
    const { namespace = '', name } = context.object.metadata;
    if (action.shards.length === 0) return { shards: [], waitingFor: action.away.map((shard) => shard.name) };
    const credentials = operatorCredentials(
      await this.#kube.of(secrets).find(operatorCredentialsReference(namespace, name)),
    );
    if (credentials === undefined) throw new Error(`Secret ${operatorTlsSecretName(name)} isn't whole`);
    const accepted = await this.#acceptedVerifiers(namespace, name);
    return setUpShards(action, {
      ledger: this.#ledger,
      accepted,
      openSession: (target) => openShardSession(target, action.wish, credentials, accepted),
      nowMs: Date.now,
      signal: context.signal,
    });
  }

  async #acceptedVerifiers(namespace: string, keyspace: string): Promise<ReadonlyMap<string, AcceptedVerifiers>> {
    const labelSelector = selectorText(roleSecretLabels(keyspace));
    const { items } = await this.#kube.of(secrets).list({ namespace, labelSelector });
    return new Map(
      items.flatMap((secret) => {
        const role = secret.metadata.labels?.[labels.role];
        const state = readRolePassword({ data: secret.data ?? {}, annotations: secret.metadata.annotations ?? {} });
        return role === undefined || state === undefined ? [] : [[role, acceptedVerifiers(state)] as const];
      }),
    );
  }

  async #applyRouterObject(object: RouterObject, { cache }: Context): Promise<void> {
    const type = routerKinds[object.kind];
    if (type === undefined) throw new Error(`${object.kind} is no kind of router object`);
    const present = cache.get<KubeObject>(type, object.metadata);
    if (!this.#applier.isCurrent<KubeObject>(type, object, present))
      await this.#applier.apply<KubeObject>(type, object);
  }

  async #deleteRouter(namespace: string, keyspace: string, region: string): Promise<void> {
    const reference = { namespace, name: routerName(keyspace, region) };
    // The Service first: new clients then go elsewhere while the routers drain.
    await this.#kube.of(services).delete(reference);
    await this.#kube.of(deployments).delete(reference);
    await this.#kube.of(podDisruptionBudgets).delete(reference);
  }
}
