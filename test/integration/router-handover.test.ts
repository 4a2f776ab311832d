/** What clients see of a primary that goes: nothing where that is planned, and else only what was in flight; and what may wait. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type pg from 'pg';
import type { RouterWord } from '#core/protocol/authority.ts';
import type { TestAgent } from './router-agents.ts';
import { codeOf, refused, waitFor } from './router-assertions.ts';
import { Crowd, insert } from './router-crowd.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

const docker = async (...args: string[]): Promise<string> => (await promisify(execFile)('docker', args)).stdout.trim();

interface Scene {
  readonly keyspace: RouterKeyspace;
  readonly router: TestRouter;
  readonly old: TestAgent;
}

async function scene(): Promise<Scene> {
  const keyspace = await RouterKeyspace.start();
  const router = await keyspace.router('eu', { hold: { transactions: 100, bytes: 1024 * 1024, ms: 60_000 } });
  return { keyspace, router, old: keyspace.agent('one-eu-0') };
}

/** What the agents and the operator do for a new primary: it is promoted, and says so. The map isn't told. */
async function promote({ keyspace }: Scene): Promise<void> {
  await keyspace.asOperator('one-ap-0', (operator) => operator.query('select pg_promote()'), 'postgres');
  const agent = keyspace.agent('one-ap-0');
  agent.follow(2, 'one-ap-0');
  // It is alone now.
  agent.say({ keepers: { acknowledgements: 0, members: [] } });
}

/** Rows of a crowd at the new primary. */
const idsAt = ({ keyspace }: Scene, from: number): Promise<Set<number>> =>
  keyspace.asOperator('one-ap-0', async (operator) => {
    const { rows } = await operator.query<{ id: string }>('select id from accounts where id > $1', [from]);
    return new Set(rows.map(({ id }) => Number(id)));
  });

describe('a planned switchover', () => {
  let at: Scene;
  before(async () => {
    at = await scene();
  });
  after(() => at?.keyspace.stop());

  test('costs clients no error and loses nothing: new transactions wait, open ones end, then the other primary serves', async (context) => {
    const { keyspace, router, old } = at;
    const crowd = new Crowd(router, 10_000);
    context.after(() => crowd.stop());
    const long = await router.connect('acme_app');
    await waitFor(async () => crowd.acknowledged.size > 50);
    await long.query('begin');
    await long.query(insert(9_000));
    // As the agent does: it says so, and stops only when every router holds and has nothing in flight.
    old.say({ state: 'stopping' });
    await waitFor(async () => old.words.at(-1)?.holdsAtEpoch === 1);
    await waitFor(async () => old.words.at(-1)?.inFlight === 1);
    await waitFor(async () => (router.worker.gauges['held_transactions'] ?? 0) >= 3);
    await sleep(200);
    assert.equal(old.words.at(-1)?.inFlight, 1, 'the long one is waited for');
    await long.query('commit');
    await waitFor(async () => old.words.at(-1)?.inFlight === 0);
    await docker('kill', '-s', 'INT', keyspace.member('one-eu-0').container.getId());
    await docker('wait', keyspace.member('one-eu-0').container.getId());
    old.say({ state: 'fenced', primary: undefined });
    await promote(at);
    const served = crowd.acknowledged.size;
    await waitFor(async () => crowd.acknowledged.size > served + 50);
    await crowd.stop();
    assert.deepEqual(crowd.errors, []);
    const found = await idsAt(at, 10_000);
    assert.deepEqual(
      [...crowd.acknowledged].filter((id) => !found.has(id)),
      [],
    );
    assert.equal(found.size, crowd.acknowledged.size, 'and nothing twice or unasked');
    assert.equal(router.worker.gauges['held_transactions'], 0);
    assert.equal(router.worker.metrics.get('epochs_learnt_total'), 1);
    await long.end();
  });
});

describe('a primary that dies', () => {
  let at: Scene;
  before(async () => {
    at = await scene();
  });
  after(() => at?.keyspace.stop());

  test('and comes back in place costs only what was in flight: what is new waits', async (context) => {
    const { keyspace, router, old } = at;
    const container = keyspace.member('one-eu-0').container.getId();
    const crowd = new Crowd(router, 20_000);
    context.after(() => crowd.stop());
    await waitFor(async () => crowd.acknowledged.size > 50);
    await docker('kill', container);
    old.say({ state: 'down' });
    const inFlight = crowd.errors.length;
    await sleep(500);
    await docker('start', container);
    const address = await docker('inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', container);
    await keyspace.moveMember('one-eu-0', address);
    // It says that it is open before its Postgres takes connections: those that try first must not fail for it.
    const served = crowd.acknowledged.size;
    await waitFor(async () => crowd.acknowledged.size > served + 20);
    await crowd.stop();
    assert.ok(crowd.errors.length <= 12 && inFlight <= 12, crowd.errors.join('\n'));
    for (const error of crowd.errors) assert.match(error, /^(08006|08007|40001) /);
    await keyspace.asOperator('one-eu-0', async (operator) => {
      const { rows } = await operator.query<{ id: string }>('select id from accounts where id > 20000');
      const found = new Set(rows.map(({ id }) => Number(id)));
      const surprising = [...found].filter((id) => !crowd.acknowledged.has(id) && !crowd.unknown.has(id));
      assert.deepEqual(surprising, [], 'what was called undone is');
    });
  });
});

/** With members of its own: one that was started again may have another address, where its follower doesn't look for it. */
describe('a primary that dies for good', () => {
  let at: Scene;
  before(async () => {
    at = await scene();
  });
  after(() => at?.keyspace.stop());

  test('and is replaced costs only what was in flight, with the truth about it', async (context) => {
    const { keyspace, router, old } = at;
    await keyspace.caughtUp();
    const crowd = new Crowd(router, 30_000);
    context.after(() => crowd.stop());
    await waitFor(async () => crowd.acknowledged.size > 50);
    await docker('kill', keyspace.member('one-eu-0').container.getId());
    old.freeze();
    await sleep(1_500);
    await promote(at);
    const served = crowd.acknowledged.size;
    await waitFor(async () => crowd.acknowledged.size > served + 50);
    await crowd.stop();
    assert.ok(crowd.errors.length <= 12, crowd.errors.join('\n'));
    for (const error of crowd.errors) assert.match(error, /^(08006|08007|40001) /);
    const found = await idsAt(at, 30_000);
    assert.deepEqual(
      [...found].filter((id) => !crowd.acknowledged.has(id) && !crowd.unknown.has(id)),
      [],
    );
  });
});

describe('what waits for a primary', () => {
  let at: Scene;
  before(async () => {
    at = await scene();
  });
  after(() => at?.keyspace.stop());

  /** A router of its own, whose primary is stopping while `use` runs. */
  async function holding(
    hold: { transactions: number; bytes: number; ms: number },
    use: (clients: pg.Client[], router: TestRouter, open: () => void) => Promise<void>,
  ): Promise<void> {
    const { keyspace, old } = at;
    // Routers of the tests before still speak, too.
    const lastWords = (): Map<string, RouterWord> => new Map(old.words.map((word) => [word.id, word]));
    const known = lastWords().size;
    const router = await keyspace.router('eu', { hold });
    await waitFor(async () => lastWords().size > known);
    const clients = await Promise.all(Array.from({ length: 6 }, () => router.connect('acme_app')));
    await clients[0]?.query('select 1 from accounts');
    old.say({ state: 'stopping' });
    await waitFor(async () => [...lastWords().values()].every(({ holdsAtEpoch }) => holdsAtEpoch === 1));
    const open = (): void => old.say({ state: 'open' });
    try {
      await use(clients, router, open);
    } finally {
      open();
      await Promise.all(clients.map((client) => client.end()));
    }
  }

  test('is bounded in number', async () => {
    await holding({ transactions: 3, bytes: 1024 * 1024, ms: 60_000 }, async (clients, router, open) => {
      const answers = clients.map((client, index) => client.query(insert(40_001 + index)).then(() => 'done', codeOf));
      await waitFor(async () => router.worker.metrics.get('held_refused_total') === 3);
      open();
      const outcomes = await Promise.all(answers);
      assert.deepEqual(outcomes.toSorted(), ['57P03', '57P03', '57P03', 'done', 'done', 'done']);
      assert.equal(router.worker.gauges['held_bytes'], 0);
    });
  });

  test('is bounded in bytes', async () => {
    await holding({ transactions: 100, bytes: 10_000, ms: 60_000 }, async (clients, _router, open) => {
      const [large, small] = clients as [pg.Client, pg.Client];
      const text = 'x'.repeat(20_000);
      await assert.rejects(
        large.query(`insert into notes (tenant_id, body) values ('acme', '${text}')`),
        refused('57P03'),
      );
      const kept = small.query(insert(40_101));
      await sleep(50);
      open();
      await kept;
    });
  });

  test('is bounded in time, and says so with a hint', async () => {
    await holding({ transactions: 100, bytes: 10_000, ms: 400 }, async ([client]) => {
      const startedMs = performance.now();
      await assert.rejects(
        client?.query(insert(40_201)) ?? Promise.resolve(),
        (error: { code: string; hint: string }) => {
          assert.equal(error.code, '57P03');
          assert.match(error.hint, /Nothing of it was sent/);
          return true;
        },
      );
      const spentMs = performance.now() - startedMs;
      assert.ok(spentMs > 350 && spentMs < 15_000, `${spentMs} ms`);
    });
  });

  test('can be cancelled, and leaves with its client', async () => {
    await holding({ transactions: 100, bytes: 10_000, ms: 60_000 }, async (clients, router, open) => {
      const [leaving, other] = clients as [pg.Client, pg.Client];
      const lost = leaving.query(insert(40_301)).catch(() => undefined);
      const kept = other.query(insert(40_302));
      await waitFor(async () => router.worker.gauges['held_transactions'] === 2);
      (leaving as unknown as { connection: { stream: { destroy: () => void } } }).connection.stream.destroy();
      await waitFor(async () => router.worker.gauges['held_transactions'] === 1);
      open();
      await kept;
      await lost;
      await at.keyspace.asOperator('one-eu-0', async (operator) => {
        const { rowCount } = await operator.query('select from accounts where id = 40301');
        assert.equal(rowCount, 0);
      });
    });
  });
});
