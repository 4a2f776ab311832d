/**
 * Authority moving on a real cluster: the primary's pod is deleted without grace, and the leading operator with it; then a
 * planned switchover back. No acknowledged row is lost, and `kubectl describe` tells the story.
 * The pod is kept from coming back by a quota on the namespace, since it would else be there again before anybody suspects.
 * Serves itself of the installed operator where there is one: the other end-to-end tests use it at the same time.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { annotations, memberPaths } from '#core/names.ts';
import { agentRole } from '#core/roles.ts';
import { installOperator, provideImages, systemNamespace, waitUntilReady } from '../../demo/installation.ts';
import { deleteNamespace, emptyNamespace, installing } from './example.ts';

const namespace = 'e2e-takeover';
const keyspace = 'shop';
const shard = 'shop-a';
const regions = ['eu', 'us', 'ap'] as const;

/** Far above what it takes alone on the machine: others use it meanwhile. */
const patienceMs = 240_000;

function manifests(): string {
  const object = (kind: string, name: string, spec: object): string =>
    stringify({ apiVersion: 'meridian.db/v1alpha1', kind, metadata: { name }, spec });
  const proximity = (region: string) => ({ proximity: regions.filter((other) => other !== region) });
  const small = { requests: { cpu: '50m', memory: '128Mi' } };
  return [
    ...regions.map((region) => object('Region', region, proximity(region))),
    object('Keyspace', keyspace, {}),
    object('Shard', shard, { keyspace, primaryRegion: 'eu', resources: small }),
    ...regions.map((region) => object('RegionalReplica', `${shard}-${region}`, { shard, region, instances: 1 })),
  ].join('---\n');
}

interface Authority {
  readonly member: string;
  readonly epoch: number;
  readonly region: string;
  readonly state: string;
}

interface ShardStatus {
  readonly authority: Authority;
  readonly membership: { readonly members: readonly { readonly name: string }[] };
  readonly history: readonly { readonly epoch: number; readonly member: string }[];
  readonly lastFailover?: { readonly from: string; readonly to: string; readonly epoch: number };
}

describe('authority', () => {
  let cluster: Cluster;
  /** Whose pod was deleted. */
  let former = '';
  const kubectl = (...args: string[]): Promise<string> => cluster.kubectl(['-n', namespace, ...args]);
  const status = async (): Promise<ShardStatus> =>
    (JSON.parse(await kubectl('get', 'shard', shard, '-o', 'json')) as { status: ShardStatus }).status;
  const sql = async (member: string, text: string): Promise<string> => {
    const psql = ['psql', '-h', memberPaths.postgresSockets, '-U', agentRole, '-d', keyspace, '-XAtqc', text];
    return (await kubectl('exec', member, '-c', 'postgres', '--', ...psql)).trim();
  };
  const until = async <T>(what: string, look: () => Promise<T | undefined>): Promise<T> => {
    const beganMs = performance.now();
    let last = '';
    for (;;) {
      const found = await look().catch((error: unknown) => {
        last = error instanceof Error ? error.message : JSON.stringify(error);
        return undefined;
      });
      if (found !== undefined) return found;
      if (performance.now() - beganMs > patienceMs) {
        const story = await kubectl('get', 'events', '--field-selector', `involvedObject.name=${shard}`).catch(String);
        throw new Error(`${what}: not within ${patienceMs} ms; ${last}\n${story}`);
      }
      await sleep(100);
    }
  };
  /** Ids of rows whose commit was acknowledged. */
  const acknowledged: string[] = [];
  /** The primary of this epoch or a later one, once it has committed: on a machine that stalls authority may move once more. */
  const served = (epoch: number): Promise<Authority> =>
    until(`a commit at epoch ${epoch}`, async () => {
      const { authority } = await status();
      if (authority.epoch < epoch || authority.state !== 'Active') return undefined;
      const row = `insert into public.kept values (default, ${authority.epoch}) returning id`;
      acknowledged.push(await sql(authority.member, row));
      return authority;
    });
  const lost = async (member: string): Promise<readonly string[]> => {
    const kept = (await sql(member, 'select id from public.kept')).split('\n');
    return acknowledged.filter((id) => !kept.includes(id));
  };

  before(async () => {
    cluster = await ensureCluster();
    const images = await provideImages(cluster);
    const installed = (await cluster.helm(['list', '-n', systemNamespace, '-q', '-a'])).includes('meridian');
    if (!installed) await installing(() => installOperator(cluster, images));
    await deleteNamespace(cluster, namespace);
    await cluster.kubectl(['create', 'namespace', namespace]);
    await cluster.kubectl(['apply', '-n', namespace, '-f', '-'], manifests());
    await waitUntilReady(cluster, namespace, 300_000);
    await until('three members', async () => ((await status()).membership.members.length === 3 ? true : undefined));
  });

  after(async () => {
    await kubectl('delete', 'resourcequota', '--all').catch(() => undefined);
    await emptyNamespace(cluster, namespace).catch(() => undefined);
    await deleteNamespace(cluster, namespace);
  });

  test('moves in seconds when the primary’s pod and the leading operator are deleted together', async (context) => {
    const table = 'create table if not exists public.kept (id bigserial primary key, epoch bigint not null)';
    await until('a table', async () => {
      await sql((await status()).authority.member, table);
      return true;
    });
    for (let n = 0; n < 5; n += 1) await served(1);

    await kubectl('create', 'quota', 'no-more-pods', '--hard=pods=2');
    const { authority } = await status();
    former = authority.member;
    const holderPath = 'jsonpath={.spec.holderIdentity}';
    const lease = ['get', 'lease', 'meridian-operator', '-n', systemNamespace];
    const holder = await cluster.kubectl([...lease, '-o', holderPath]);
    const beganMs = performance.now();
    const atOnce = ['--grace-period=0', '--force', '--wait=false'];
    await Promise.all([
      kubectl('delete', 'pod', authority.member, ...atOnce),
      cluster.kubectl(['delete', 'pod', holder.split('_')[0] ?? '', '-n', systemNamespace, ...atOnce]).catch(String),
    ]);
    const next = await served(authority.epoch + 1);
    context.diagnostic(`the first commit came ${Math.round(performance.now() - beganMs)} ms after the deletion`);

    assert.notEqual(next.member, authority.member);
    assert.deepEqual(await lost(next.member), []);
    const { authority: present, history, lastFailover } = await status();
    // An operator that dies in the middle of an attempt leaves its epoch unused: nobody else may take it.
    const epochs = history.map(({ epoch }) => epoch);
    assert.deepEqual(
      epochs,
      [...new Set(epochs)].toSorted((a, b) => a - b),
      'one entry for each, in their order',
    );
    assert.equal(epochs.at(-1), present.epoch);
    const entry = history.findIndex(({ epoch }) => epoch === lastFailover?.epoch);
    assert.ok((history[entry]?.epoch ?? 0) > authority.epoch, JSON.stringify(lastFailover));
    assert.equal(lastFailover?.from, history[entry - 1]?.member);
    assert.equal(lastFailover?.to, history[entry]?.member);
    // The Events that a killed operator hadn't sent yet went with it: whichever step the other one had still to do is told.
    const steps = /(Suspected|Fenced|WaitedOut|Decided|Promoted|Opened) .*after \d+\.\d+ s/;
    await until('the story', async () => (steps.test(await kubectl('describe', 'shard', shard)) ? true : undefined));
  });

  test('comes back with its history: the old primary follows again', async () => {
    await kubectl('delete', 'resourcequota', 'no-more-pods');
    // Whoever was refused the pod tries again only after a pause that has doubled each time: not for as long where its object changes.
    await kubectl('annotate', 'statefulsets', '--all', 'meridian.db/test=again');
    const old = former;
    const streams = `select count(*) from pg_stat_replication where application_name like '${old}/%' and state = 'streaming'`;
    await until('the old primary streaming, and counted', async () => {
      const { authority, membership } = await status();
      const isListed = membership.members.some(({ name }) => name === old);
      return isListed && (await sql(authority.member, streams)) === '1' ? true : undefined;
    });
  });

  test('moves by an annotation, and stays', async (context) => {
    const { authority, lastFailover } = await status();
    const region = authority.region === 'eu' ? 'us' : 'eu';
    const beganMs = performance.now();
    await kubectl('annotate', 'shard', shard, `${annotations.switchover}=${region}`);
    const next = await until(`a primary in ${region}`, async () => {
      const found = await served(authority.epoch + 1);
      return found.region === region ? found : undefined;
    });
    context.diagnostic(`the first commit came ${Math.round(performance.now() - beganMs)} ms after the wish`);
    assert.equal(next.member, `${shard}-${region}-0`);
    assert.deepEqual(await lost(next.member), []);
    if (next.epoch === authority.epoch + 1)
      assert.equal((await status()).lastFailover?.epoch, lastFailover?.epoch, 'a switchover is no failover');
  });
});
