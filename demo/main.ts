/**
 * `npm run demo`: from a machine with Node, npm, Go and root to a keyspace that answers in three regions.
 * Every step is what a user would do by hand: cluster, images, helm install, kubectl apply, SQL through two routers.
 * Safe to run again: what stands is kept. `npm run demo -- --remove` takes the example and the operator away.
 */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { connect, type Login, type RouterEndpoint, readLogin, routerEndpoint, servedBy } from './application.ts';
import { exampleFolder, installOperator, provideImages, systemNamespace, waitUntilReady } from './installation.ts';
import { step } from './progress.ts';
import { fillShop } from './rows.ts';
import { renderTable } from './table.ts';

const namespace = 'shop';
const keyspace = 'shop';
const role = 'shop_app';
const regions = ['eu', 'ap'] as const;
const levels = ['strong', 'eventual'] as const;
const readyTimeoutMs = 300_000;

async function tenantKeys(cluster: Cluster): Promise<readonly string[]> {
  const keys = await cluster.kubectl(['get', 'tenants', '-n', namespace, '-o', 'jsonpath={.items[*].spec.key}']);
  return keys.trim().split(' ');
}

/** Real rows for every tenant, through one router, each tenant in a transaction of its own. */
async function fill(endpoint: RouterEndpoint, login: Login, tenants: readonly string[]): Promise<void> {
  const client = await connect(endpoint, login);
  try {
    for (const tenant of tenants) {
      await client.query(`set meridian.tenant = '${tenant}'`);
      await fillShop(client, tenant);
    }
  } finally {
    await client.end();
  }
}

async function ask(endpoint: RouterEndpoint, login: Login, tenants: readonly string[]): Promise<string[][]> {
  const rows: string[][] = [];
  const client = await connect(endpoint, login);
  try {
    for (const level of levels) {
      await client.query(`set meridian.consistency = '${level}'`);
      for (const tenant of tenants) {
        const count = (): Promise<{ rows: { n: string }[] }> =>
          client.query<{ n: string }>(
            'select count(*) as n from orders join payments using (tenant_id, order_id) where tenant_id = $1',
            [tenant],
          );
        await count(); // The first one opens the pool's connection; what is shown is the second.
        const startedAt = performance.now();
        const result = await count();
        const elapsedMs = performance.now() - startedAt;
        const by = await servedBy(client);
        rows.push([
          endpoint.region,
          tenant,
          level,
          by.shard,
          by.region,
          by.role,
          result.rows[0]?.n ?? '?',
          elapsedMs.toFixed(1),
        ]);
      }
    }
  } finally {
    await client.end();
  }
  return rows;
}

function tellHowToLookAround(cluster: Cluster, endpoint: RouterEndpoint, login: Login, caFile: string): void {
  process.stdout.write(`
Look around (this kubectl is the cluster's own; any other of 1.33 to 1.35 does as well):
  export KUBECONFIG=${cluster.kubeconfigPath} PATH=${dirname(cluster.kubectlPath)}:$PATH
  kubectl -n ${namespace} get shards,regionalreplicas,tenants
  kubectl -n ${namespace} describe shard shop-a
  kubectl explain shard.spec.durability

SQL through the router of ${endpoint.region}, as it stands:
  PGPASSWORD='${login.password}' psql "host=${endpoint.host} hostaddr=${endpoint.address} user=${login.user} dbname=${login.database} sslmode=verify-full sslrootcert=${caFile} options='-c meridian.tenant=acme'"
  then, for example:  select * from products;  show meridian.served_by;  set meridian.consistency = 'eventual';

Remove it:
  npm run demo -- --remove        the example and the operator
  npm run cluster -- down         the cluster (add --purge for all that was built)
`);
}

async function remove(cluster: Cluster): Promise<void> {
  await step('example removed', () =>
    cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--timeout=180s']),
  );
  await step('operator removed', () =>
    cluster.helm(['uninstall', 'meridian', '-n', systemNamespace, '--ignore-not-found', '--wait']),
  );
}

async function main(): Promise<void> {
  const startedAt = performance.now();
  const cluster = await ensureCluster();
  if (process.argv.includes('--remove')) return remove(cluster);
  const clusterAt = performance.now();

  const images = await step('images built and loaded', () => provideImages(cluster));
  await step('operator installed (helm upgrade --install)', () => installOperator(cluster, images));
  await step('example applied (kubectl apply)', async () => {
    await cluster.kubectl(
      ['apply', '-f', '-'],
      `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"${namespace}"}}`,
    );
    await cluster.kubectl(['apply', '-n', namespace, '-f', exampleFolder]);
  });
  await step('keyspace ready', (tell) => waitUntilReady(cluster, namespace, readyTimeoutMs, tell));

  const login = await readLogin(cluster, namespace, keyspace, role);
  const endpoints = await Promise.all(regions.map((region) => routerEndpoint(cluster, namespace, keyspace, region)));
  const [first] = endpoints;
  if (first === undefined) throw new Error('no region to ask');
  const tenants = await tenantKeys(cluster);
  await step(`rows written for ${tenants.length} tenants through the router of ${first.region}`, () =>
    fill(first, login, tenants),
  );

  const rows: string[][] = [];
  for (const endpoint of endpoints) rows.push(...(await ask(endpoint, login, tenants)));
  const header = ['router', 'tenant', 'consistency', 'shard', 'answered in', 'by', 'orders paid', 'ms'];
  process.stdout.write(`\n${renderTable(header, rows)}\n`);

  const caFile = join(dirname(cluster.kubeconfigPath), `${keyspace}-ca.crt`);
  await writeFile(caFile, login.ca);
  tellHowToLookAround(cluster, first, login, caFile);
  const inSeconds = (fromMs: number, toMs: number): string => ((toMs - fromMs) / 1000).toFixed(0);
  const endedAt = performance.now();
  process.stdout.write(
    `\nIn all ${inSeconds(startedAt, endedAt)} s, of which the cluster took ${inSeconds(startedAt, clusterAt)} s.\n`,
  );
}

await main().catch((error: unknown) => {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
