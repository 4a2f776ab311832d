/**
 * The operator's own certificate of a keyspace, with which it logs in to members, as its Secret has it.
 */
import { operatorTlsSecretName } from '#core/names.ts';
import type { Secret } from '#kube/kinds.ts';
import { textOf } from '#operator/pki/secrets.ts';
import type { ClientCredentials } from '#operator/postgres/connect.ts';

export const operatorCredentialsReference = (namespace: string, keyspace: string) => ({
  namespace,
  name: operatorTlsSecretName(keyspace),
});

/** Undefined while the Secret isn't there or isn't whole. */
export function operatorCredentials(secret: Secret | undefined): ClientCredentials | undefined {
  const ca = textOf(secret, 'ca.crt');
  const certificate = textOf(secret, 'tls.crt');
  const privateKey = textOf(secret, 'tls.key');
  if (ca === undefined || certificate === undefined || privateKey === undefined) return undefined;
  return { ca, certificate, privateKey };
}
