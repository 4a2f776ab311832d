/**
 * What each level of reading promises, on real Postgres: a primary and a follower that is held back where a test wants it to be, routers
 * in front of them, and agents that say what Postgres says.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { waitFor } from './router-assertions.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

const follower = 'one-ap-0';

const replay = (what: 'pause' | 'resume'): Promise<unknown> =>
  keyspace.asOperator(follower, (client) => client.query(`select pg_wal_replay_${what}()`));

/** What was asked for is done when the follower is about to replay the next record. */
const isHeldBack = (): Promise<boolean> =>
  keyspace.asOperator(follower, async (client) => {
    const { rows } = await client.query<{ state: string }>('select pg_get_wal_replay_pause_state() as state');
    return rows[0]?.state === 'paused';
  });

/** The follower stands still while `during` runs. */
async function heldBack<T>(during: () => Promise<T>): Promise<T> {
  await replay('pause');
  try {
    await waitFor(isHeldBack);
    return await during();
  } finally {
    await replay('resume');
    await keyspace.caughtUp();
  }
}

let clients: pg.Client[] = [];
afterEach(async () => {
  await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
  clients = [];
});

async function session(settings: Readonly<Record<string, string>> = {}, at: TestRouter = router): Promise<pg.Client> {
  const options = Object.entries(settings)
    .map(([name, value]) => `-c meridian.${name}=${value}`)
    .join(' ');
  const client = await at.connect('acme_app', { options });
  clients.push(client);
  return client;
}

const role = async (client: pg.Client): Promise<string> =>
  /role=(\w+)/.exec(await show(client, 'served_by'))?.[1] ?? '';

async function show(client: pg.Client, name: string): Promise<string> {
  const { rows } = await client.query<Record<string, string>>(`show meridian.${name}`);
  return rows[0]?.[`meridian.${name}`] ?? '';
}

let ids = 0;
/** A row of its own for each test. */
async function account(client: pg.Client): Promise<number> {
  ids += 1;
  await client.query('insert into accounts (tenant_id, id) values ($1, $2)', ['acme', ids]);
  return ids;
}

const write = (client: pg.Client, id: number, balance: number): Promise<unknown> =>
  client.query('update accounts set balance = $2 where tenant_id = $3 and id = $1', [id, balance, 'acme']);

async function read(client: pg.Client, id: number): Promise<number> {
  const { rows } = await client.query<{ balance: string }>(
    'select balance from accounts where tenant_id = $2 and id = $1',
    [id, 'acme'],
  );
  return Number(rows[0]?.balance ?? -1);
}

describe('causal', () => {
  test('a session reads its own writes, from the follower', async () => {
    const client = await session({ consistency: 'causal', causal_wait: '5s' });
    const id = await account(client);
    let served = 0;
    for (let balance = 1; balance <= 200; balance++) {
      await write(client, id, balance);
      assert.equal(await read(client, id), balance);
      if ((await role(client)) === 'follower') served += 1;
    }
    // Most of them: on a machine with too much to do an agent's word may come too late now and then, and then the primary serves.
    assert.ok(served >= 120, `${served} of 200 reads by the follower`);
  });

  test('with the follower held back a session still reads its own writes, from the primary', async () => {
    const client = await session({ consistency: 'causal' });
    const id = await account(client);
    await heldBack(async () => {
      for (let balance = 1; balance <= 5; balance++) {
        await write(client, id, balance);
        assert.equal(await read(client, id), balance);
        assert.equal(await role(client), 'primary');
      }
    });
    // And from the follower again when it has caught up.
    await waitFor(async () => {
      assert.equal(await read(client, id), 5);
      return (await role(client)) === 'follower';
    });
  });

  test('where the session says so, a read that no follower can serve fails instead', async () => {
    const client = await session({ consistency: 'causal', when_behind: 'error' });
    const id = await account(client);
    await heldBack(async () => {
      await write(client, id, 1);
      await assert.rejects(read(client, id), { code: 'MD005' });
    });
  });

  test('another service that is handed the token reads what was written before', async () => {
    const other = await keyspace.router('ap');
    const [writer, reader] = [await session(), await session({ consistency: 'causal' }, other)];
    const id = await account(writer);
    for (let balance = 1; balance <= 20; balance++) {
      await write(writer, id, balance);
      await reader.query(`set meridian.token = '${await show(writer, 'token')}'`);
      assert.equal(await read(reader, id), balance);
    }
    await heldBack(async () => {
      await write(writer, id, 21);
      await reader.query(`set meridian.token = '${await show(writer, 'token')}'`);
      assert.equal(await read(reader, id), 21);
      await write(writer, id, 22);
      const token = await show(writer, 'token');
      const { rows } = await reader.query<{ balance: string }>(
        `/* token='${token}' */ select balance from accounts where tenant_id = 'acme' and id = ${id}`,
      );
      assert.equal(Number(rows[0]?.balance), 22);
    });
  });

  test('writes follow reads: who is handed the token of a reader sees what the reader saw', async () => {
    const [writer, reader, third] = [
      await session(),
      await session({ consistency: 'causal' }),
      await session({ consistency: 'causal' }),
    ];
    const id = await account(writer);
    await heldBack(async () => {
      await write(writer, id, 1);
      // The reader has seen the write without its token: by a strong read.
      await reader.query('set meridian.consistency = strong');
      assert.equal(await read(reader, id), 1);
      await third.query(`set meridian.token = '${await show(reader, 'token')}'`);
      assert.equal(await read(third, id), 1);
    });
  });
});

describe('tokens on the way', () => {
  test('a token in a comment counts in the extended protocol, too', async () => {
    const [writer, reader] = [await session(), await session({ consistency: 'causal' })];
    const id = await account(writer);
    await keyspace.caughtUp();
    await heldBack(async () => {
      await write(writer, id, 1);
      const token = await show(writer, 'token');
      const { rows } = await reader.query<{ balance: string }>(
        `/* token='${token}' */ select balance from accounts where tenant_id = $2 and id = $1`,
        [id, 'acme'],
      );
      assert.equal(Number(rows[0]?.balance), 1);
    });
  });

  test('one that is taken up inside a transaction on a follower that has not seen it is refused, not ignored', async () => {
    const [writer, reader] = [await session(), await session({ consistency: 'causal' })];
    const id = await account(writer);
    await keyspace.caughtUp();
    await heldBack(async () => {
      await reader.query('begin read only');
      assert.equal(await read(reader, id), 0);
      assert.equal(await role(reader), 'follower');
      await write(writer, id, 1);
      await reader.query(`set meridian.token = '${await show(writer, 'token')}'`);
      await assert.rejects(read(reader, id), { code: '25006' });
      await reader.query('rollback');
      assert.equal(await read(reader, id), 1, 'and holds for the next');
    });
  });
});

describe('a commit that waits for its acknowledgement', () => {
  const primary = 'one-eu-0';
  const waitFor = (names: string): Promise<unknown> =>
    keyspace.asOperator(primary, async (client) => {
      await client.query(`alter system set synchronous_standby_names = '${names}'`);
      await client.query('select pg_reload_conf()');
    });

  test('is not unseen by a session that has read it at a follower and goes on to the primary', async () => {
    const [writer, reader] = [await session(), await session({ consistency: 'eventual' })];
    const id = await account(writer);
    await keyspace.caughtUp();
    const [agent, other] = [keyspace.agents.get(primary), keyspace.agents.get(follower)];
    assert.ok(agent !== undefined && other !== undefined);
    agent.isAcknowledging = false;
    await waitFor('nobody');
    // The reload has to reach the backends.
    await sleep(500);
    const writing = write(writer, id, 1);
    try {
      while ((await read(reader, id)) !== 1) await sleep(20);
      assert.equal(await role(reader), 'follower');
      other.say({ state: 'starting' });
      await sleep(300);
      const reading = read(reader, id);
      await sleep(300);
      await waitFor('');
      await writing;
      agent.isAcknowledging = true;
      assert.equal(await reading, 1);
      assert.equal(await role(reader), 'primary');
    } finally {
      agent.isAcknowledging = true;
      await waitFor('');
      other.say({ state: 'following' });
    }
  });
});

describe('with two acknowledgements', () => {
  test('a follower serves a causal read once what it shows is durable, else the primary does (A17)', async () => {
    const agent = keyspace.agents.get('one-eu-0');
    assert.ok(agent !== undefined);
    const client = await session({ consistency: 'causal', causal_wait: '1s' });
    const id = await account(client);
    agent.copies = 2;
    agent.say({ keepers: { acknowledgements: 2, members: agent.peers } });
    await sleep(300);
    try {
      let served = 0;
      for (let balance = 1; balance <= 20; balance++) {
        await write(client, id, balance);
        assert.equal(await read(client, id), balance);
        if ((await role(client)) === 'follower') served += 1;
      }
      assert.ok(served >= 10, `${served} of 20 reads by the follower`);
      agent.isAcknowledging = false;
      await sleep(200);
      await write(client, id, 21);
      assert.equal(await read(client, id), 21);
      assert.equal(await role(client), 'primary');
    } finally {
      agent.copies = 1;
      agent.isAcknowledging = true;
      agent.say({ keepers: { acknowledgements: 1, members: agent.peers } });
    }
  });
});

describe('eventual and bounded', () => {
  test('an eventual read takes what the follower has, however old', async () => {
    const writer = await session();
    const id = await account(writer);
    await keyspace.caughtUp();
    await heldBack(async () => {
      await write(writer, id, 1);
      // Where an agent's word came late the primary serves, and that session then never goes back behind it: another is tried.
      await waitFor(async () => {
        const reader = await session({ consistency: 'eventual' });
        const seen = await read(reader, id);
        const isByFollower = (await role(reader)) === 'follower';
        assert.equal(seen, isByFollower ? 0 : 1);
        return isByFollower;
      });
    });
  });

  test('eventual reads of a session never go back, also where its token was handed over', async () => {
    const [writer, reader] = [await session(), await session({ consistency: 'eventual' })];
    const id = await account(writer);
    await keyspace.caughtUp();
    await heldBack(async () => {
      await write(writer, id, 1);
      await reader.query(`set meridian.token = '${await show(writer, 'token')}'`);
      assert.equal(await read(reader, id), 1);
      assert.equal(await role(reader), 'primary');
    });
  });

  test('an idle primary does not make its follower look old', async () => {
    const client = await session({ consistency: 'bounded', max_staleness: '1s' });
    const id = await account(client);
    await sleep(2_500);
    await waitFor(async () => {
      assert.equal(await read(client, id), 0);
      return (await role(client)) === 'follower';
    });
  });

  test('a follower that stands still serves bounded reads no longer than their bound', async () => {
    const boundMs = 3_000;
    const [writer, reader] = [
      await session(),
      await session({ consistency: 'bounded', max_staleness: `${boundMs}ms` }),
    ];
    const id = await account(writer);
    await keyspace.caughtUp();
    await heldBack(async () => {
      const written = new Map<number, number>();
      let wasFollower = false;
      const begunAt = performance.now();
      for (let balance = 1; performance.now() - begunAt < boundMs + 1_500; balance++) {
        await write(writer, id, balance);
        written.set(balance, performance.now());
        // What the level promises is counted from here: how long the answer takes is the machine's affair.
        const askedAt = performance.now();
        const seen = await read(reader, id);
        if ((await role(reader)) === 'follower') wasFollower = true;
        // What was overwritten longer ago than the bound must not be seen.
        const overwrittenAt = written.get(seen + 1);
        if (overwrittenAt !== undefined) assert.ok(askedAt - overwrittenAt <= boundMs, `${askedAt - overwrittenAt} ms`);
        await sleep(20);
      }
      assert.ok(wasFollower, 'within the bound the follower serves');
      assert.equal(await role(reader), 'primary', 'past it the primary does');
    });
  });
});

describe('tokens', () => {
  test('what is no token of this keyspace is refused', async () => {
    const client = await session();
    const token = await show(client, 'token');
    for (const wrong of ['nonsense', `${token}A`, `x${token.slice(1)}`])
      await assert.rejects(client.query(`set meridian.token = '${wrong}'`), { code: '22023' });
    await client.query(`set meridian.token = '${token}'`);
  });

  test('a commit says its token where the client asked for that', async () => {
    const client = await session({ report_token: 'on' });
    const told: string[] = [];
    (client as unknown as { connection: NodeJS.EventEmitter }).connection.on(
      'parameterStatus',
      (message: { parameterName: string; parameterValue: string }) => {
        if (message.parameterName === 'meridian.token') told.push(message.parameterValue);
      },
    );
    const id = await account(client);
    assert.equal(told.length, 1);
    await client.query('begin');
    await write(client, id, 1);
    assert.equal(told.length, 1);
    await client.query('commit');
    assert.equal(told.length, 2);
    assert.equal(await show(client, 'token'), told[1]);
  });

  test('a token is known right after a strong read, too', async () => {
    const client = await session();
    const id = await account(client);
    const before = await show(client, 'token');
    await client.query('reset meridian.token');
    await read(client, id);
    assert.ok((await show(client, 'token')).length >= before.length);
  });
});

describe('transactions', () => {
  test('BEGIN READ ONLY goes where its level says, and its first snapshot is taken after the check', async () => {
    const client = await session({ consistency: 'causal' });
    const id = await account(client);
    for (const isolation of ['read committed', 'repeatable read']) {
      let byFollower = 0;
      // On a machine that has much to do followers may be behind for a while.
      for (let balance = 1; balance <= 10 || (byFollower === 0 && balance <= 300); balance++) {
        await write(client, id, balance);
        await client.query(`begin isolation level ${isolation} read only`);
        assert.equal(await read(client, id), balance);
        await client.query('commit');
        if ((await role(client)) === 'follower') byFollower += 1;
      }
      assert.ok(byFollower > 0, isolation);
    }
  });

  test('BEGIN READ ONLY goes on where it began, also when more becomes known of what the session had read before', async () => {
    const client = await session({ consistency: 'causal' });
    const id = await account(client);
    for (let balance = 1; balance <= 10; balance++) {
      await write(client, id, balance);
      await read(client, id);
      await client.query('begin isolation level repeatable read read only');
      assert.equal(await read(client, id), balance);
      // Agents say meanwhile where its earlier read was.
      await sleep(150);
      assert.equal(await read(client, id), balance);
      await client.query('commit');
    }
  });

  test('a transaction that may write reads from the primary', async () => {
    const client = await session({ consistency: 'causal' });
    const id = await account(client);
    await client.query('begin');
    assert.equal(await read(client, id), 0);
    await client.query('commit');
    assert.equal(await role(client), 'primary');
  });
});
