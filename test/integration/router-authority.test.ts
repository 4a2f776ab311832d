/** Epochs that agents tell, and answers that count only while the primary's lease was held when they were read. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type pg from 'pg';
import type { TestAgent } from './router-agents.ts';
import { codeOf, one, refused, waitFor } from './router-assertions.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
let agent: TestAgent;
const primary = 'one-eu-0';
let id = 100;

before(async () => {
  keyspace = await RouterKeyspace.start();
  agent = keyspace.agent(primary);
  router = await keyspace.router('eu', { hold: { transactions: 100, bytes: 1024 * 1024, ms: 3_000 } });
});
after(() => keyspace?.stop());

const docker = async (...args: string[]): Promise<string> => (await promisify(execFile)('docker', args)).stdout.trim();
/** A machine with much to do may fail to freeze a container in time ("unable to freeze"). */
async function pause(): Promise<void> {
  const freeze = (): Promise<boolean> =>
    docker('pause', keyspace.member(primary).container.getId()).then(
      () => true,
      () => false,
    );
  await waitFor(freeze);
}
const unpause = (): Promise<string> => docker('unpause', keyspace.member(primary).container.getId());

const insert = (): string => {
  id += 1;
  return `insert into accounts (tenant_id, id) values ('acme', ${id})`;
};
const exists = (which: number): Promise<boolean> =>
  keyspace.asOperator(primary, async (operator) => {
    const { rowCount } = await operator.query('select from accounts where id = $1', [which]);
    return (rowCount ?? 0) > 0;
  });
/** The member has what was sent, and works at it: it waits for a lock. */
const atWork = (): Promise<void> =>
  waitFor(async () => (await keyspace.backends(primary, "wait_event_type = 'Lock'")) > 0);

const quietly = (client: pg.Client): Promise<boolean> =>
  client.query('select count(*) from accounts').then(
    () => true,
    () => false,
  );

/**
 * What will come of a question that its member is at work on. On a machine with much to do so short a lease may not be known to be held
 * for so long that nothing is sent: then it is asked again.
 */
async function sent(ask: () => Promise<unknown>): Promise<{ readonly outcome: Promise<unknown> }> {
  for (;;) {
    const outcome = ask().then(() => 'delivered', codeOf);
    const first = await Promise.race([atWork().then(() => 'at work'), outcome]);
    if (first !== '57P03') return { outcome };
  }
}

/** The connection is made, and its member in use before the fault. */
async function connected(): Promise<pg.Client> {
  const client = await router.connect('acme_app');
  await waitFor(() => quietly(client));
  return client;
}

/** Nobody else can read the table until it is opened. */
async function locked(table: string): Promise<{ open: () => void }> {
  const opened = Promise.withResolvers<void>();
  const taken = Promise.withResolvers<void>();
  void keyspace.asOperator(primary, async (operator) => {
    await operator.query('begin');
    await operator.query(`lock table ${table} in access exclusive mode`);
    taken.resolve();
    await opened.promise;
    await operator.query('rollback');
  });
  await taken.promise;
  return { open: () => opened.resolve() };
}

describe('the answer of a primary that stood still', () => {
  const doubts = (): number => router.worker.metrics.get('horizon_waits_total');
  /**
   * The router has the answers, and waits for proof of the lease: only then the agent may go on. It waits for 3 s at most, so
   * whoever doesn't see it by then goes on, too.
   */
  const doubted = (count: number): Promise<void> =>
    waitFor(async () => doubts() >= count, 2_500).catch(() => undefined);

  /**
   * Says a lease that runs out soon, stops the member while it works at `ask`, and its agent; lets the lease run out, and both go
   * on. Gives what came of the question.
   */
  async function standStill(ask: () => Promise<unknown>, thawed: () => void): Promise<unknown> {
    agent.sayAsPrimary({ leaseRemainingMs: 1_500 });
    // The router's horizon is no older than that answer now.
    await sleep(2_900);
    const lock = await locked('accounts');
    const before = doubts();
    let outcome: Promise<unknown>;
    try {
      ({ outcome } = await sent(ask));
      agent.freeze();
      await pause();
      await sleep(2_000);
      thawed();
      await unpause();
    } finally {
      lock.open();
    }
    await doubted(before + 1);
    agent.thaw();
    return outcome;
  }
  afterEach(() => {
    agent.thaw();
    agent.sayAsPrimary({ leaseRemainingMs: 2_800, leaseNumber: 1 });
  });

  const ways: readonly (readonly [string, (client: pg.Client) => Promise<unknown>, string])[] = [
    ['a strong read: it only read', (client) => client.query('select count(*) from accounts'), '08006'],
    ['a write by itself: its outcome is unknown', (client) => client.query(insert()), '08007'],
    [
      'an extended write',
      (client) => client.query("insert into accounts (tenant_id, id) values ('acme', $1)", [(id += 1)]),
      '08007',
    ],
  ];
  for (const [what, run, sqlstate] of ways)
    test(`is not delivered under the next lease: ${what}`, async () => {
      const client = await connected();
      const misses = router.worker.metrics.get('horizon_misses_total');
      const outcome = await standStill(
        () => run(client),
        () => agent.sayAsPrimary({ leaseNumber: 2 }),
      );
      assert.equal(outcome, sqlstate);
      assert.equal(router.worker.metrics.get('horizon_misses_total'), misses + 1);
      await waitFor(() => quietly(client));
      await client.end();
    });

  test('a COMMIT is unknown, and a statement before it surely undone', async () => {
    const committing = await connected();
    const working = await connected();
    await committing.query('begin');
    await committing.query(insert());
    const committed = id;
    await working.query('begin');
    await working.query(insert());
    const undone = id;
    const codes: Promise<unknown>[] = [];
    const code = (running: Promise<unknown>): Promise<unknown> =>
      running.then(
        () => 'delivered',
        (error: { code: string }) => error.code,
      );
    agent.sayAsPrimary({ leaseRemainingMs: 1_500 });
    await sleep(2_900);
    // Freezing may take its time, and these are to be sent while the lease is held.
    await pause();
    const before = doubts();
    codes.push(code(committing.query('commit')), code(working.query('select 1')));
    await sleep(300);
    agent.freeze();
    await sleep(2_000);
    agent.sayAsPrimary({ leaseNumber: 2 });
    await unpause();
    await doubted(before + 2);
    agent.thaw();
    assert.deepEqual(await Promise.all(codes), ['08007', '40001']);
    assert.ok(await exists(committed), 'it did commit');
    assert.ok(!(await exists(undone)));
    await committing.end();
    await working.end();
  });

  test('is delivered after all where the same lease is shown to have held all the while', async () => {
    const client = await connected();
    const waits = router.worker.metrics.get('horizon_waits_total');
    const outcome = await standStill(
      () => client.query(insert()),
      () => undefined,
    );
    assert.equal(outcome, 'delivered');
    assert.equal(router.worker.metrics.get('horizon_waits_total'), waits + 1);
    assert.ok(await exists(id));
    await client.end();
  });
});

describe('without a horizon', () => {
  test('a transaction waits until the lease is known, and fails in bounded time with the reason', async () => {
    agent.sayAsPrimary({ leaseRemainingMs: 0 });
    const client = await router.connect('acme_app');
    await waitFor(() =>
      client.query('select 1 from accounts').then(
        () => false,
        (error: unknown) => codeOf(error) === '57P03',
      ),
    );
    await assert.rejects(client.query(insert()), refused('57P03'));
    assert.ok(!(await exists(id)));
    const waiting = client.query(insert());
    await sleep(300);
    agent.sayAsPrimary({ leaseRemainingMs: null, leaseNumber: 3 });
    await waiting;
    assert.ok(await exists(id));
    agent.sayAsPrimary({ leaseRemainingMs: 2_800 });
    await client.end();
  });

  test('reads that need no primary go on, and what touches no table', async () => {
    agent.sayAsPrimary({ leaseRemainingMs: 0 });
    await router.with('acme_app', async (client) => {
      await client.query("set meridian.consistency = 'eventual'");
      assert.equal((await client.query('select 1 from accounts limit 1')).rowCount, 1);
      assert.equal(await one(client, 'select 1'), 1);
    });
    agent.sayAsPrimary({ leaseRemainingMs: 2_800, leaseNumber: 4 });
  });
});

describe('an epoch that an agent tells before the API server', () => {
  test('cuts every connection to the primary of before, each with the truth, and is never given up for a lower one', async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, connected));
    const [reading, writing, working, resting] = clients as [pg.Client, pg.Client, pg.Client, pg.Client];
    await working.query('begin');
    await working.query(insert());
    const undone = id;
    await resting.query('begin');
    await resting.query('select 1 from accounts');
    await keyspace.caughtUp();
    // A read that waits: a function that sleeps might as well write, for all that the router knows.
    const lock = await locked('notes');
    const read = reading.query('select count(*) from notes');
    const write = writing.query(`select pg_sleep(30); ${insert()}`);
    const work = working.query('select pg_sleep(30)');
    const outcomes = Promise.all([
      assert.rejects(read, refused('08006')),
      assert.rejects(write, refused('08007')),
      assert.rejects(work, refused('40001')),
    ]);
    await waitFor(async () => (await keyspace.backends(primary, "wait_event in ('PgSleep', 'relation')")) === 3);
    await keyspace.asOperator('one-ap-0', (operator) => operator.query('select pg_promote()'), 'postgres');
    const startedMs = performance.now();
    // Only the new primary's agent knows: the map says epoch 1, and the old agent does, too.
    keyspace.agent('one-ap-0').follow(2, 'one-ap-0');
    await outcomes;
    lock.open();
    assert.ok(performance.now() - startedMs < 15_000, 'as soon as it is told, not when their statements end');
    await assert.rejects(resting.query('select 1 from accounts'), refused('40001'));
    for (const client of clients) {
      await client.query('rollback');
      await client.query('select 1 from accounts');
      assert.match(String(await one(client, 'show meridian.served_by')), /member=one-ap-0 .*role=primary/);
    }
    // Those that sleep notice later, as any Postgres does.
    await waitFor(async () => (await keyspace.backends(primary, "state = 'idle'")) === 0);
    await keyspace.writeMapOnly(keyspace.map());
    agent.follow(1, primary);
    await sleep(500);
    await clients[0]?.query(insert());
    assert.match(String(await one(reading, 'show meridian.served_by')), /member=one-ap-0/);
    assert.ok(!(await exists(undone)));
    await Promise.all(clients.map((client) => client.end()));
  });
});
