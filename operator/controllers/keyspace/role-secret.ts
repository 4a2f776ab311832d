/**
 * The Secret of an application role: everything that an application needs to connect, beside its password (`operator/passwords`).
 * Pure. Fields that people add are left alone; ours are made anew each time.
 */
import { annotations, labels, managedByValue, ports, roleSecretName, routerName } from '#core/names.ts';
import type { Secret } from '#kube/kinds.ts';
import type { Stored } from '#kube/objects.ts';
import type { RolePassword } from '#operator/passwords/role-password.ts';
import { encodeField, passwordFields, passwordSecretFields } from '#operator/passwords/secret-fields.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';

export interface RoleSecretWish {
  readonly namespace: string;
  readonly keyspace: string;
  readonly role: string;
  readonly database: string;
  /** Trust bundle of the keyspace, PEM. */
  readonly bundle: string;
  /** Regions with routers, in the order of the spec: the first one is in `host` and `uri`. */
  readonly regions: readonly string[];
  /** Where the role has to show one. */
  readonly certificate: KeyPairPem | undefined;
}

export const roleComponent = 'role';

/** What each application connects to in a region: the name in the routers' certificate. */
export const routerHost = (wish: Pick<RoleSecretWish, 'namespace' | 'keyspace'>, region: string): string =>
  `${routerName(wish.keyspace, region)}.${wish.namespace}.svc`;

const ownField = /^(uri|host)(-.*)?$|^(username|database|port|ca\.crt|tls\.crt|tls\.key)$/;
const passwordFieldNames: ReadonlySet<string> = new Set(Object.values(passwordFields));
const isOurs = (field: string): boolean => ownField.test(field) || passwordFieldNames.has(field);

/** The whole Secret, over what is there now. */
export function roleSecret(wish: RoleSecretWish, state: RolePassword, present: Stored<Secret> | undefined): Secret {
  const fields = passwordSecretFields(state);
  const connection = Object.fromEntries(
    Object.entries(connectionFields(wish, state.password)).map(([name, text]) => [name, encodeField(text)]),
  );
  const foreign = Object.fromEntries(Object.entries(present?.data ?? {}).filter(([field]) => !isOurs(field)));
  const { [annotations.rotated]: _served, ...otherAnnotations } = present?.metadata.annotations ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      ...present?.metadata,
      name: roleSecretName(wish.keyspace, wish.role),
      namespace: wish.namespace,
      labels: { ...present?.metadata.labels, ...roleSecretLabels(wish.keyspace), [labels.role]: wish.role },
      annotations: { ...otherAnnotations, ...fields.annotations },
    },
    type: present?.type ?? 'Opaque',
    data: { ...foreign, ...connection, ...fields.data },
  };
}

export const roleSecretLabels = (keyspace: string): Readonly<Record<string, string>> => ({
  [labels.managedBy]: managedByValue,
  [labels.component]: roleComponent,
  [labels.keyspace]: keyspace,
});

function connectionFields(wish: RoleSecretWish, password: string): Record<string, string> {
  const uri = (region: string): string =>
    `postgresql://${encodeURIComponent(wish.role)}:${encodeURIComponent(password)}@${routerHost(wish, region)}:${ports.postgres}/${encodeURIComponent(wish.database)}?sslmode=verify-full`;
  const first = wish.regions[0];
  return {
    username: wish.role,
    database: wish.database,
    port: String(ports.postgres),
    'ca.crt': wish.bundle,
    ...(wish.certificate === undefined
      ? {}
      : { 'tls.crt': wish.certificate.certificate, 'tls.key': wish.certificate.privateKey }),
    ...(first === undefined ? {} : { host: routerHost(wish, first), uri: uri(first) }),
    ...Object.fromEntries(
      wish.regions.flatMap((region) => [
        [`host-${region}`, routerHost(wish, region)],
        [`uri-${region}`, uri(region)],
      ]),
    ),
  };
}
