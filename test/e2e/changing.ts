/** What happens when the declared state changes: passwords, parameters, counts, a lost pod, and deletions that must be held. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Cluster } from '#cluster/cluster.ts';
import { roleSecretName } from '#core/names.ts';
import { connect, readLogin, routerEndpoint } from '../../demo/application.ts';
import { waitUntilReady } from '../../demo/installation.ts';

const keyspace = 'shop';
const patienceMs = 240_000;

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

export function changing(clusterOf: () => Cluster, namespace: string): void {
  let cluster: Cluster;
  before(() => {
    cluster = clusterOf();
  });

  const kubectl = (...args: string[]): Promise<string> => cluster.kubectl(['-n', namespace, ...args]);
  const conditions = async (object: string): Promise<readonly Condition[]> =>
    (JSON.parse(await kubectl('get', object, '-o', 'json')) as { status?: { conditions?: Condition[] } }).status
      ?.conditions ?? [];

  /** Polls until `look` returns something, whatever stands in its way meanwhile; fails with what it last saw. */
  async function eventually<T>(
    what: string,
    look: () => Promise<T | undefined>,
    seen: () => Promise<unknown> = async () => '',
  ): Promise<T> {
    const deadline = performance.now() + patienceMs;
    let problem = '';
    for (;;) {
      const found = await look().catch((error: unknown) => {
        problem = error instanceof Error ? error.message : String(error);
        return undefined;
      });
      if (found !== undefined) return found;
      if (performance.now() > deadline) {
        const last = JSON.stringify(await seen().catch(String));
        assert.fail(`${what}: not seen within ${patienceMs / 1000} s; last: ${last} ${problem}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  const condition = (object: string, type: string, status: string, message = /(?:)/): Promise<Condition> =>
    eventually(
      `${object} ${type}=${status} ${message}`,
      async () =>
        (await conditions(object)).find(
          (found) => found.type === type && found.status === status && message.test(found.message),
        ),
      () => conditions(object),
    );

  test('a password rotates on request, and the old one works meanwhile', async () => {
    const eu = await routerEndpoint(cluster, namespace, keyspace, 'eu');
    const old = await readLogin(cluster, namespace, keyspace, 'shop_app');
    await kubectl('annotate', 'secret', roleSecretName(keyspace, 'shop_app'), 'meridian.db/rotate=once', '--overwrite');
    const rotated = await eventually('a new password', async () => {
      const now = await readLogin(cluster, namespace, keyspace, 'shop_app');
      return now.password === old.password ? undefined : now;
    });
    // The Secret may be a moment ahead of the routers' own look-up.
    const client = await eventually('a login with the new password', () => connect(eu, rotated));
    await client.end();
    const withOld = await eventually('a login with the old one', () =>
      connect(eu, old).catch((error: unknown) => {
        if ((error as { code?: string }).code === '28P01') return 'refused' as const;
        throw error;
      }),
    );
    assert.ok(withOld !== 'refused', 'the old password is not accepted any more');
    await withOld.end();
  });

  interface Recorded {
    readonly epoch: number;
    readonly member: string;
    readonly incarnation: string;
  }
  const authorityOf = async (shard: string): Promise<Recorded> =>
    JSON.parse(await kubectl('get', 'shard', shard, '-o', 'jsonpath={.status.authority}')) as Recorded;

  const historyOf = async (shard: string): Promise<readonly Pick<Recorded, 'epoch' | 'member'>[]> =>
    JSON.parse(await kubectl('get', 'shard', shard, '-o', 'jsonpath={.status.history}')) as Recorded[];

  test('a lost primary pod costs no tenant: it comes back, or another member takes over at a higher epoch', async () => {
    const former = await authorityOf('shop-a');
    const life = (): Promise<string> => kubectl('get', 'pod', former.member, '-o', 'jsonpath={.metadata.uid}');
    const ended = await life();
    await kubectl('delete', 'pod', former.member, '--grace-period=0', '--force');
    await eventually('another pod in its place', async () => ((await life()) === ended ? undefined : true));
    await waitUntilReady(cluster, namespace, patienceMs);
    const now = await authorityOf('shop-a');
    assert.ok(now.epoch >= former.epoch);
    if (now.member !== former.member) assert.ok(now.epoch > former.epoch, 'another primary is another epoch');
    // Whoever leads, everybody counts again, as who it was: no volume was lost.
    await condition('shard/shop-a', 'MembershipSettled', 'True');
    if (now.member === former.member) assert.equal(now.incarnation, former.incarnation);
    const login = await readLogin(cluster, namespace, keyspace, 'acme_app');
    const eu = await routerEndpoint(cluster, namespace, keyspace, 'eu');
    await eventually('a read after the restart', async () => {
      const client = await connect(eu, login);
      try {
        return await client.query('select count(*) as n from products');
      } finally {
        await client.end();
      }
    });
  });

  test('a parameter that only a restart can change rolls over everybody, the primary last, after a switchover', async () => {
    const former = await authorityOf('shop-a');
    await kubectl(
      'patch',
      'shard',
      'shop-a',
      '--type=merge',
      '-p',
      '{"spec":{"postgres":{"parameters":{"max_connections":"210"}}}}',
    );
    const query = [
      'psql',
      '-h',
      '/run/meridian/postgres',
      '-U',
      'meridian_agent',
      '-d',
      'postgres',
      '-Atc',
      'show max_connections',
    ];
    const shows = async (pod: string): Promise<string> =>
      (await kubectl('exec', pod, '-c', 'postgres', '--', ...query).catch((error: unknown) => String(error))).trim();
    for (const member of ['shop-a-eu-0', 'shop-a-us-0', 'shop-a-ap-0']) {
      await eventually(
        `${member} with the new value`,
        async () => ((await shows(member)) === '210' ? true : undefined),
        () => shows(member),
      );
    }
    await condition('shard/shop-a', 'RolloutPending', 'False');
    await waitUntilReady(cluster, namespace, patienceMs);
    // It may have moved more than once on a machine that stalls.
    const later = (await historyOf('shop-a')).filter(({ epoch }) => epoch > former.epoch);
    assert.ok(
      later.some(({ member }) => member !== former.member),
      'authority moved away before the former primary was restarted',
    );
  });

  test('a switchover that was asked for by hand is done, and one that can not be is refused with the reason', async () => {
    const former = await authorityOf('shop-a');
    await kubectl('annotate', 'shard', 'shop-a', 'meridian.db/switchover=nowhere', '--overwrite');
    const refused = await eventually('the refusal', async () =>
      (await conditions('shard/shop-a')).find(
        ({ type, reason }) => type === 'SwitchoverPossible' && reason === 'TargetUnknown',
      ),
    );
    assert.match(refused.message, /nowhere/);
    const target = former.member === 'shop-a-eu-0' ? 'shop-a-us-0' : 'shop-a-eu-0';
    await kubectl('annotate', 'shard', 'shop-a', `meridian.db/switchover=${target}`, '--overwrite');
    await eventually(
      `${target} as primary`,
      async () => ((await authorityOf('shop-a')).member === target ? true : undefined),
      () => conditions('shard/shop-a'),
    );
    await waitUntilReady(cluster, namespace, patienceMs);
    await eventually('the annotation taken off', async () => {
      const left = await kubectl('get', 'shard', 'shop-a', '-o', 'jsonpath={.metadata.annotations}');
      return left.includes('meridian.db/switchover') ? undefined : true;
    });
  });

  test('kubectl scale adds a follower, which clones, streams and is counted', async () => {
    await kubectl('scale', 'regionalreplica', 'shop-b-ap', '--replicas=2');
    await eventually(
      'shop-b-ap-1 in the membership',
      async () => {
        const members = await kubectl('get', 'shard', 'shop-b', '-o', 'jsonpath={.status.membership.members[*].name}');
        return members.split(' ').includes('shop-b-ap-1') ? true : undefined;
      },
      () => conditions('shard/shop-b'),
    );
    await kubectl('scale', 'regionalreplica', 'shop-b-ap', '--replicas=1');
    await eventually('shop-b-ap-1 gone', async () => {
      const pods = await kubectl('get', 'pods', '-o', 'name');
      const members = await kubectl('get', 'shard', 'shop-b', '-o', 'jsonpath={.status.membership.members[*].name}');
      return pods.includes('shop-b-ap-1') || members.includes('shop-b-ap-1') ? undefined : true;
    });
  });

  test('what depends on other objects becomes a condition: a tenant of no shard, a shard in no region, too many acknowledgements', async () => {
    await cluster.kubectl(
      ['apply', '-n', namespace, '-f', '-'],
      `
apiVersion: meridian.db/v1alpha1
kind: Tenant
metadata: { name: lost }
spec: { keyspace: shop, key: lost, shard: no-such-shard }
---
apiVersion: meridian.db/v1alpha1
kind: Shard
metadata: { name: shop-x }
spec: { keyspace: shop, primaryRegion: nowhere, durability: { acknowledgements: 3 } }
`,
    );
    await condition('tenant/lost', 'Ready', 'False', /no-such-shard/);
    const nowhere = await eventually('a condition that names the region', async () =>
      (await conditions('shard/shop-x')).find((found) => found.status === 'False' && /nowhere/.test(found.message)),
    );
    assert.notEqual(nowhere.reason, '');
    await eventually('a condition about acknowledgements', async () =>
      (await conditions('shard/shop-x')).find((found) => found.status === 'False' && /acknowledg/i.test(found.message)),
    );
    await kubectl('delete', 'tenant/lost', 'shard/shop-x', '--timeout=180s');
  });

  test('a failed migration stops there and says so; mending it goes on', async () => {
    const spec = JSON.parse(await kubectl('get', 'keyspace', keyspace, '-o', 'json')) as {
      spec: { migrations: { name: string; sql?: string }[] };
    };
    const withMigration = (sql: string): string =>
      JSON.stringify({ spec: { migrations: [...spec.spec.migrations, { name: '9999-notes', sql }] } });
    await kubectl(
      'patch',
      'keyspace',
      keyspace,
      '--type=merge',
      '-p',
      withMigration('create table notes (id bigint primary key, body text)'),
    );
    await condition(`keyspace/${keyspace}`, 'MigrationsApplied', 'False', /9999-notes/);
    await kubectl(
      'patch',
      'keyspace',
      keyspace,
      '--type=merge',
      '-p',
      withMigration(
        'create table notes (tenant_id text not null, id bigint not null, body text, primary key (tenant_id, id))',
      ),
    );
    await condition(`keyspace/${keyspace}`, 'MigrationsApplied', 'True');
    await waitUntilReady(cluster, namespace, patienceMs);
  });

  test('deleting a shard that still owns tenants is held, with a condition that names them', async () => {
    await kubectl('delete', 'shard', 'shop-b', '--wait=false');
    const held = await eventually('a condition about owned tenants', async () =>
      (await conditions('shard/shop-b')).find(
        (found) => /tenant/i.test(found.message) && /delet|own/i.test(`${found.reason} ${found.message}`),
      ),
    );
    assert.ok(held.message.length > 0);
    const phase = await kubectl('get', 'shard', 'shop-b', '-o', 'jsonpath={.metadata.deletionTimestamp}');
    assert.notEqual(phase, '');
  });
}
