/**
 * The operator's own certificate for each keyspace, read from (or made in) the Secret `<keyspace>-operator-tls`.
 * Kept in memory for a minute, so that watching many members doesn't read the Secret each time.
 */
import { labels, managedByValue, operatorTlsSecretName } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { controllerReference, type KubeObject, type Stored } from '#kube/objects.ts';
import { ensureCertificateSecret, ensureKeyspaceCa } from '../pki/secrets.ts';
import type { OperatorCredentials } from './client.ts';

const keepMs = 60_000;

export class CredentialStore {
  readonly #kube: KubeApi;
  readonly #kept = new Map<string, { readonly credentials: OperatorCredentials; readonly untilMs: number }>();

  constructor(kube: KubeApi) {
    this.#kube = kube;
  }

  /** @throws BrokenAuthorityError, ApiError */
  async of(keyspace: Stored<KubeObject>): Promise<OperatorCredentials> {
    const { uid } = keyspace.metadata;
    const kept = this.#kept.get(uid);
    if (kept !== undefined && performance.now() < kept.untilMs) return kept.credentials;
    const credentials = await this.#read(keyspace);
    this.#kept.set(uid, { credentials, untilMs: performance.now() + keepMs });
    return credentials;
  }

  async #read(keyspace: Stored<KubeObject>): Promise<OperatorCredentials> {
    const now = new Date();
    const { namespace = '', name } = keyspace.metadata;
    const ca = await ensureKeyspaceCa(this.#kube, keyspace, now);
    return ensureCertificateSecret(
      this.#kube,
      ca,
      {
        metadata: {
          namespace,
          name: operatorTlsSecretName(name),
          labels: { [labels.managedBy]: managedByValue, [labels.component]: 'operator', [labels.keyspace]: name },
          ownerReferences: [controllerReference(keyspace)],
        },
        certificate: { identity: { kind: 'operator', namespace, keyspace: name }, dnsNames: [], ipAddresses: [] },
      },
      now,
    );
  }
}
