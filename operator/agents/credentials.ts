/**
 * The operator's own certificate for each keyspace, read from (or made in) the Secret `<keyspace>-operator-tls`.
 * Kept in memory, and read again in the background once a minute: neither watching many members nor a failover waits for
 * the API server to say what is known already.
 */
import { labels, managedByValue, operatorTlsSecretName } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { secrets } from '#kube/kinds.ts';
import { controllerReference, type KubeObject, type Stored } from '#kube/objects.ts';
import { ensureCertificateSecret, ensureKeyspaceCa, textOf } from '../pki/secrets.ts';
import type { OperatorCredentials } from './client.ts';

const keepMs = 60_000;
/** After a failure with nothing kept, nobody asks again for so long. */
const failedMs = 1_000;

interface Kept {
  readonly credentials: OperatorCredentials;
  /** From then on it is read again, and used until that is done. */
  readonly freshUntilMs: number;
}

export class CredentialStore {
  readonly #kube: KubeApi;
  readonly #issues: boolean;
  readonly #kept = new Map<string, Kept>();
  readonly #reading = new Map<string, Promise<OperatorCredentials>>();
  readonly #failed = new Map<string, { readonly error: unknown; readonly untilMs: number }>();

  /** @param options.issues False: takes what there is and makes nothing, as a replica that doesn't lead must. Default true. */
  constructor(kube: KubeApi, options: { readonly issues?: boolean } = {}) {
    this.#kube = kube;
    this.#issues = options.issues ?? true;
  }

  /** @throws BrokenAuthorityError, ApiError, only while there are none yet. */
  async of(keyspace: Stored<KubeObject>): Promise<OperatorCredentials> {
    const kept = this.#kept.get(keyspace.metadata.uid);
    if (kept !== undefined && performance.now() < kept.freshUntilMs) return kept.credentials;
    const reading = this.#refresh(keyspace);
    if (kept === undefined) return reading;
    reading.catch(() => undefined);
    return kept.credentials;
  }

  /** One read at a time for each keyspace. */
  #refresh(keyspace: Stored<KubeObject>): Promise<OperatorCredentials> {
    const { uid } = keyspace.metadata;
    const present = this.#reading.get(uid);
    if (present !== undefined) return present;
    const failed = this.#failed.get(uid);
    if (!this.#issues && failed !== undefined && performance.now() < failed.untilMs)
      return Promise.reject(failed.error);
    const reading = (this.#issues ? this.#ensure(keyspace) : this.#read(keyspace))
      .then(
        (credentials) => {
          this.#failed.delete(uid);
          this.#kept.set(uid, { credentials, freshUntilMs: performance.now() + keepMs });
          return credentials;
        },
        (error: unknown) => {
          this.#failed.set(uid, { error, untilMs: performance.now() + failedMs });
          throw error;
        },
      )
      .finally(() => this.#reading.delete(uid));
    this.#reading.set(uid, reading);
    return reading;
  }

  async #read(keyspace: Stored<KubeObject>): Promise<OperatorCredentials> {
    const { namespace = '', name } = keyspace.metadata;
    const secret = await this.#kube.of(secrets).get({ namespace, name: operatorTlsSecretName(name) });
    const [certificate, privateKey, bundle] = ['tls.crt', 'tls.key', 'ca.crt'].map((key) => textOf(secret, key));
    if (certificate === undefined || privateKey === undefined || bundle === undefined)
      throw new Error(`Secret ${secret.metadata.name} is not complete`);
    return { certificate, privateKey, bundle };
  }

  async #ensure(keyspace: Stored<KubeObject>): Promise<OperatorCredentials> {
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
