/**
 * An application's view: the role's Secret, a router's address, and a node-postgres client that verifies the certificate.
 * Connects to the Service's cluster address, which the test cluster routes from this machine, under the Service's name.
 */
import pg from 'pg';
import type { Cluster } from '#cluster/cluster.ts';
import { roleSecretName, routerName } from '#core/names.ts';

export interface Login {
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** PEM. */
  readonly ca: string;
}

export async function readLogin(cluster: Cluster, namespace: string, keyspace: string, role: string): Promise<Login> {
  const text = await cluster.kubectl(['get', 'secret', roleSecretName(keyspace, role), '-n', namespace, '-o', 'json']);
  const data = (JSON.parse(text) as { data: Record<string, string> }).data;
  const field = (name: string): string => {
    const value = data[name];
    if (value === undefined) throw new Error(`secret ${roleSecretName(keyspace, role)} has no ${name}`);
    return Buffer.from(value, 'base64').toString('utf8');
  };
  return { user: field('username'), password: field('password'), database: field('database'), ca: field('ca.crt') };
}

export interface RouterEndpoint {
  readonly region: string;
  /** The Service's DNS name: what the certificate says. */
  readonly host: string;
  /** The Service's cluster address. */
  readonly address: string;
}

export async function routerEndpoint(
  cluster: Cluster,
  namespace: string,
  keyspace: string,
  region: string,
): Promise<RouterEndpoint> {
  const name = routerName(keyspace, region);
  const address = await cluster.kubectl(['get', 'service', name, '-n', namespace, '-o', 'jsonpath={.spec.clusterIP}']);
  return { region, host: `${name}.${namespace}.svc`, address: address.trim() };
}

/** Connects through a router, TLS verified in full. `options` are startup options, such as `-c meridian.tenant=acme`. */
export async function connect(endpoint: RouterEndpoint, login: Login, options = ''): Promise<pg.Client> {
  const client = new pg.Client({
    host: endpoint.address,
    port: 5432,
    user: login.user,
    password: login.password,
    database: login.database,
    ssl: { ca: login.ca, servername: endpoint.host, rejectUnauthorized: true },
    connectionTimeoutMillis: 10_000,
    ...(options === '' ? {} : { options }),
  });
  await client.connect();
  return client;
}

export interface ServedBy {
  readonly member: string;
  readonly shard: string;
  readonly region: string;
  readonly role: string;
}

/** Which member answered the session's last statement. */
export async function servedBy(client: pg.Client): Promise<ServedBy> {
  const result = await client.query<Record<string, string>>('show meridian.served_by');
  const text = Object.values(result.rows[0] ?? {})[0] ?? '';
  const words = new Map(text.split(' ').map((word) => word.split('=') as [string, string]));
  const of = (name: string): string => words.get(name) ?? '?';
  return { member: of('member'), shard: of('shard'), region: of('region'), role: of('role') };
}
