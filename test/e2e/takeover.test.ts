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
import { deleteNamespace, emptyNamespace } from './example.ts';

const namespace = 'e2e-takeover';
const keyspace = 'shop';
const shard = 'shop-a';
const regions = ['eu', 'us', 'ap'] as const;

/** Far above what it takes alone on the machine: others use it meanwhile. */
const patienceMs = 60_000;

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

interface ShardStatus {
  readonly authority: { readonly member: string; readonly epoch: number; readonly state: string };
  readonly membership: { readonly members: readonly { readonly name: string }[] };
  readonly history: readonly object[];
  readonly lastFailover?: { readonly from: string; readonly to: string; readonly epoch: number };
}

describe('authority', () => {
  let cluster: Cluster;
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
  /** The new primary, once it has committed. */
  const servedSince = async (epoch: number): Promise<{ readonly member: string; readonly epoch: number }> => {
    const { authority } = await until(`a primary at epoch ${epoch}`, async () => {
      const present = await status();
      return present.authority.epoch >= epoch && present.authority.state === 'Active' ? present : undefined;
    });
    await until(`a commit at ${authority.member}`, async () => {
      await sql(authority.member, `insert into public.kept values (default, ${authority.epoch})`);
      return true;
    });
    return authority;
  };

  before(async () => {
    cluster = await ensureCluster();
    const images = await provideImages(cluster);
    const installed = (await cluster.helm(['list', '-n', systemNamespace, '-q', '-a'])).includes('meridian');
    if (!installed) await installOperator(cluster, images);
    await deleteNamespace(cluster, namespace);
    await cluster.kubectl(['create', 'namespace', namespace]);
    await cluster.kubectl(['apply', '-n', namespace, '-f', '-'], manifests());
    await waitUntilReady(cluster, namespace, 180_000);
    await until('three members', async () => ((await status()).membership.members.length === 3 ? true : undefined));
  });

  after(async () => {
    await kubectl('delete', 'resourcequota', '--all').catch(() => undefined);
    await emptyNamespace(cluster, namespace).catch(() => undefined);
    await deleteNamespace(cluster, namespace);
  });

  test('moves in seconds when the primary’s pod and the leading operator are deleted together', async (context) => {
    const { authority } = await status();
    await sql(authority.member, 'create table public.kept (id bigserial primary key, epoch bigint not null)');
    for (let n = 0; n < 5; n += 1)
      await sql(authority.member, `insert into public.kept values (default, ${authority.epoch})`);

    await kubectl('create', 'quota', 'no-more-pods', '--hard=pods=2');
    const holderPath = 'jsonpath={.spec.holderIdentity}';
    const lease = ['get', 'lease', 'meridian-operator', '-n', systemNamespace];
    const holder = await cluster.kubectl([...lease, '-o', holderPath]);
    const beganMs = performance.now();
    const atOnce = ['--grace-period=0', '--force', '--wait=false'];
    await Promise.all([
      kubectl('delete', 'pod', authority.member, ...atOnce),
      cluster.kubectl(['delete', 'pod', holder.split('_')[0] ?? '', '-n', systemNamespace, ...atOnce]).catch(String),
    ]);
    const next = await servedSince(authority.epoch + 1);
    context.diagnostic(`the first commit came ${Math.round(performance.now() - beganMs)} ms after the deletion`);

    assert.notEqual(next.member, authority.member);
    assert.equal(await sql(next.member, `select count(*) from public.kept where epoch = ${authority.epoch}`), '5');
    const { history, lastFailover } = await status();
    assert.equal(history.length, next.epoch, 'one entry for each epoch');
    assert.equal(lastFailover?.from, authority.member);
    assert.equal(lastFailover?.to, next.member);
    // The Events that a killed replica hadn't sent yet went with it, so that only the beginning is sure to be there.
    const told = await until('the story', async () => {
      const story = await kubectl('describe', 'shard', shard);
      return /Suspected/.test(story) ? story : undefined;
    });
    assert.match(told, /Suspected .*after \d+\.\d+ s/);
  });

  test('comes back with its history: the old primary follows again', async () => {
    await kubectl('delete', 'resourcequota', 'no-more-pods');
    const old = `${shard}-eu-0`;
    const streams = `select count(*) from pg_stat_replication where application_name like '${old}/%' and state = 'streaming'`;
    await until('the old primary streaming, and counted', async () => {
      const { authority, membership } = await status();
      const isListed = membership.members.some(({ name }) => name === old);
      return isListed && (await sql(authority.member, streams)) === '1' ? true : undefined;
    });
  });

  test('moves by an annotation, and stays', async (context) => {
    const { authority } = await status();
    const beganMs = performance.now();
    await kubectl('annotate', 'shard', shard, `${annotations.switchover}=eu`);
    const next = await servedSince(authority.epoch + 1);
    context.diagnostic(`the first commit came ${Math.round(performance.now() - beganMs)} ms after the wish`);
    assert.equal(next.member, `${shard}-eu-0`);
    const counts = await sql(next.member, 'select string_agg(epoch::text, $$ $$ order by id) from public.kept');
    assert.match(counts, /^1 1 1 1 1 /, counts);
    assert.equal((await status()).lastFailover?.epoch, authority.epoch, 'a switchover is no failover');
  });
});
