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
/** So much at least; the follower serves while it isn't held back, and on a fast machine all reads may be done before that has come. */
const least = { reads: 700, turns: 3 };
const levels = ['causal', 'bounded', 'eventual'] as const;
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
  const deadline = performance.now() + 150_000;
  // A machine with too much to do may not let it in at once; the next turn tries again.
  const replay = (what: string): Promise<unknown> =>
    keyspace.asOperator(follower, (client) => client.query(`select pg_wal_replay_${what}()`)).catch(() => undefined);
  let turn = 0;
  const holding = (async () => {
    for (; !over.signal.aborted; turn++) {
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
    reads: 0,
    isEnough: (present) => {
      const reads = Object.values(present).reduce((sum, count) => sum + count.reads, 0);
      const isServed = levels.every((level) => present[level].byFollowers > 0);
      return (reads >= least.reads && turn >= least.turns && isServed) || performance.now() > deadline;
    },
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
  for (const level of levels) assert.ok(counts[level].byFollowers > 0, `no ${level} read was served by the follower`);
});
