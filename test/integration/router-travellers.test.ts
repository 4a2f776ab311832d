/**
 * A short journey of `npm run test:consistency`, without a cluster: two routers, a follower that is held back half of the time, and
 * clients that go from one router to the other with their tokens. Judged by what needs no other program.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { travel } from '../consistency/journeys.ts';
import type { Door } from '../history/session.ts';
import { firstMigration, RouterKeyspace, type TestRouter } from './router-keyspace.ts';

const follower = 'one-ap-0';
const migration = `
create table lists (
  tenant_id text not null, run integer not null, family text not null, name integer not null, elements integer[] not null,
  primary key (tenant_id, run, family, name)
);
grant select, insert, update, delete on lists to meridian_application;`;

let keyspace: RouterKeyspace;
let folder: string;
let doors: Door[];

before(async () => {
  keyspace = await RouterKeyspace.start();
  for (const member of ['one-eu-0', 'two-us-0'])
    await keyspace.asOperator(member, async (client) => {
      const run = await runMigrations(client, [firstMigration, { name: '0002-lists', sql: migration }], {
        referenceTables: ['currencies'],
      });
      assert.equal(run.failure, undefined);
    });
  folder = await mkdtemp(join(tmpdir(), 'meridian-travellers-'));
  const doorOf = (name: string, router: TestRouter): Door => ({ name, open: () => router.connect('acme_app') });
  doors = [doorOf('eu', await keyspace.router('eu')), doorOf('ap', await keyspace.router('ap'))];
});
after(async () => {
  await keyspace?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

test('every level keeps its promise to clients that go from router to router, the follower held back half of the time', {
  timeout: 240_000,
}, async (context) => {
  const over = new AbortController();
  // A machine with too much to do may not let it in at once; the next turn tries again.
  const replay = (what: string): Promise<unknown> =>
    keyspace.asOperator(follower, (client) => client.query(`select pg_wal_replay_${what}()`)).catch(() => undefined);
  const holding = (async () => {
    while (!over.signal.aborted) {
      await replay('pause');
      // Much longer than a bounded read may be behind: one that is served nevertheless has to be noticed.
      await sleep(2_000);
      await replay('resume');
      await sleep(700);
    }
  })();
  const { counts, verdicts, failed, unknown } = await travel({
    doors,
    tenant: 'acme',
    run: 1,
    seed: 1 + (Date.now() % 100_000),
    folder,
    travellers: { strong: 1, causal: 3, bounded: 3, eventual: 1 },
    maxStalenessMs: 800,
    reads: 700,
    readsPerPortion: 700,
    judges: ['own'],
  });
  over.abort();
  await holding;
  for (const [level, { reads, asked, byFollowers }] of Object.entries(counts))
    context.diagnostic(`${level}: ${reads} reads, ${byFollowers} of ${asked} asked by followers`);
  context.diagnostic(`${failed} failed, ${unknown} of unknown outcome`);
  assert.deepEqual(
    verdicts.filter(({ valid }) => valid !== true),
    [],
  );
  for (const level of ['causal', 'bounded', 'eventual'] as const)
    assert.ok(counts[level].byFollowers > 0, `no ${level} read was served by the follower`);
});
