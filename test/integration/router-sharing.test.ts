/** Many clients on few backends: what stays with a session, what is refused, what comes through whole, and what is left behind. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { headerBytes } from '#router/wire/codes.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { one, refused, waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, sqlstateOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await router.with('any_app', async (client) => {
    for (const tenant of ['acme', 'bolt', 'cord'])
      await client.query(
        `insert into accounts (tenant_id, id, owner, balance) values ($1, 1, 'Ann', 10), ($1, 2, 'Bob', 20)`,
        [tenant],
      );
  });
  await keyspace.caughtUp();
});
after(() => keyspace?.stop());

describe('sharing backends', () => {
  test('two clients of different tenants never see each other’s rows, however their statements interleave', async () => {
    const work = async (role: string, tenant: string): Promise<void> => {
      await router.with(role, async (client) => {
        if (!role.startsWith(tenant)) await client.query(`set meridian.tenant = '${tenant}'`);
        for (let round = 0; round < 60; round++) {
          const { rows } = await client.query<{ tenant_id: string }>('select tenant_id from accounts');
          assert.deepEqual([...new Set(rows.map((row) => row.tenant_id))], [tenant]);
          if (round % 7 === 0) await client.query('select 1/0').catch(() => undefined);
          if (round % 5 === 0) {
            await client.query('begin');
            assert.equal(await one(client, 'select min(tenant_id) from accounts'), tenant);
            await client.query(round % 2 === 0 ? 'rollback' : 'commit');
          }
        }
      });
    };
    await Promise.all([
      ...['acme', 'bolt', 'cord', 'acme', 'cord', 'bolt', 'acme', 'cord'].map((tenant) => work('any_app', tenant)),
      ...['acme', 'bolt'].map((tenant) => work('pair_app', tenant)),
      work('acme_app', 'acme'),
      work('bolt_app', 'bolt'),
    ]);
  });

  test('a failing statement does not undo the pin for the client after it', async () => {
    const clients = await Promise.all(
      ['acme', 'cord'].map(async (tenant) => {
        const client = await router.connect('any_app');
        await client.query(`set meridian.tenant = '${tenant}'`);
        return { client, tenant };
      }),
    );
    for (let round = 0; round < 30; round++)
      for (const { client, tenant } of clients) {
        await client.query('select 1/0 from accounts').catch(() => undefined);
        assert.equal(await one(client, 'select min(tenant_id) from accounts'), tenant);
      }
    for (const { client } of clients) await client.end();
  });

  test('settings stay with their session and are there on every backend it gets', async () => {
    const first = await router.connect('acme_app');
    const second = await router.connect('acme_app');
    await first.query("set statement_timeout = '12s'");
    await first.query("set app.theme = 'dark'");
    for (let round = 0; round < 10; round++) {
      assert.equal(await one(second, 'show statement_timeout'), '0');
      assert.equal(await one(first, 'show statement_timeout'), '12s');
      assert.ok(['', null].includes((await one(second, "select current_setting('app.theme', true)")) as string | null));
      assert.equal(await one(first, "select current_setting('app.theme', true)"), 'dark');
    }
    await first.query('begin');
    await first.query("set statement_timeout = '99s'");
    assert.equal(await one(first, 'show statement_timeout'), '99s');
    await first.query('rollback');
    assert.equal(await one(first, 'show statement_timeout'), '12s');
    await first.query('reset statement_timeout');
    assert.equal(await one(first, 'show statement_timeout'), '0');
    await first.query('discard all');
    assert.ok(['', null].includes((await one(first, "select current_setting('app.theme', true)")) as string | null));
    await first.end();
    await second.end();
  });

  test('what a function leaves in its session is gone before the next client', async () => {
    const first = await router.connect('acme_app');
    const second = await router.connect('acme_app');
    for (let round = 0; round < 5; round++) {
      await first.query('select leave_setting()');
      for (let look = 0; look < 5; look++)
        assert.ok(
          ['', null].includes((await one(second, "select current_setting('app.left', true)")) as string | null),
        );
    }
    await first.end();
    await second.end();
  });

  test('what can not be shared is refused with a hint', async () => {
    await router.with('acme_app', async (client) => {
      for (const sql of ['select lastval()', "select currval('notes_id_seq')", "prepare transaction 'x'"])
        await assert.rejects(client.query(sql), refused('0A000'), sql);
      assert.equal(await one(client, 'select 1'), 1);
    });
  });

  test('the last number of a sequence is never another client’s', async () => {
    await router.with('any_app', async (drawing) => {
      await drawing.query("set meridian.tenant = 'acme'");
      const drawn = Number(await one(drawing, "select nextval('notes_id_seq')"));
      await router.with('any_app', async (asking) => {
        await asking.query("set meridian.tenant = 'acme'");
        await asking.query('begin');
        await assert.rejects(asking.query('select lastval()'), refused('0A000'));
        await asking.query('rollback');
        await asking.query('begin');
        const own = Number(await one(asking, "select nextval('notes_id_seq')"));
        assert.ok(own > drawn);
        assert.equal(Number(await one(asking, 'select lastval()')), own);
        await asking.query('commit');
      });
    });
  });

  test('a function call message is answered, and refused where it would leave a setting behind', async () => {
    const numberOf = (name: string): Promise<unknown> =>
      router.with('acme_app', (client) => one(client, 'select $1::regprocedure::oid::int', [name]));
    const call = (oid: unknown, ...values: readonly Buffer[]): Buffer =>
      message(
        'F'.charCodeAt(0),
        int32(Number(oid)),
        // All in binary.
        int16(1),
        int16(1),
        int16(values.length),
        ...values.flatMap((value) => [int32(value.length), value]),
        int16(1),
      );
    const client = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    const setting = [Buffer.from('work_mem'), Buffer.from('1MB'), Buffer.from([0])];
    client.send(call(await numberOf('set_config(text, text, boolean)'), ...setting));
    assert.equal(sqlstateOf(await client.next('E')), '42501');
    await client.next('Z');
    client.send(call(await numberOf('reverse(text)'), Buffer.from('acme')));
    const [answer, ...more] = await client.until('Z');
    assert.equal(answer?.frame.toString('utf8', headerBytes + 4), 'emca');
    assert.equal(more.length, 1);
    client.end();
  });

  test('more clients than backends wait for their turn, and one that waits too long is told', async () => {
    await Promise.all(
      Array.from({ length: 25 }, () =>
        router.with('acme_app', async (client) => {
          for (let round = 0; round < 4; round++) await client.query('select pg_sleep(0.01)');
        }),
      ),
    );
    assert.ok((await keyspace.backends('one-eu-0', "usename = 'acme_app'")) <= 10);
  });
});

test('a function that is declared stable and sets another tenant does not bring the next client there', async () => {
  const primaries = keyspace.map().shards.flatMap(({ primary }) => primary ?? []);
  await Promise.all(
    primaries.map((member) =>
      keyspace.asOperator(member, async (operator) => {
        await operator.query('set role meridian_owner');
        // Postgres holds a function to its volatility in nothing that it calls ("Function Volatility Categories").
        await operator.query(`create function slip(tenant text) returns text language sql stable as
          $$ select pg_catalog.set_config('meridian.tenant', tenant, false) $$`);
      }),
    ),
  );
  // It has read the catalogue with the function in it, and believes of it what it says of itself.
  const own = await keyspace.router('eu');
  await own.with('any_app', async (slipping) => {
    await slipping.query("set meridian.tenant = 'acme'");
    await own.with('any_app', async (next) => {
      await next.query("set meridian.tenant = 'acme'");
      for (let round = 0; round < 5; round++) {
        // Often enough that statements share.
        for (let look = 0; look < 5; look++)
          assert.equal(await one(next, 'select min(tenant_id) from accounts'), 'acme');
        const [slipped, seen] = await Promise.all([
          slipping.query<{ pid: number; slip: string }>(
            "select pg_backend_pid() as pid, slip('cord') as slip from accounts limit 1",
          ),
          one(next, 'select min(tenant_id) from accounts'),
        ]);
        assert.equal(seen, 'acme');
        assert.equal(slipped.rows[0]?.slip, 'cord');
        // Its pin was read back, and was another's: nobody gets that connection again.
        const pid = slipped.rows[0].pid;
        await waitFor(async () => (await backendsWith(primaries, pid)) === 0);
        assert.equal(await one(slipping, 'select min(tenant_id) from accounts'), 'acme');
      }
    });
  });
  assert.ok(own.worker.metrics.get('shared_total') > 0);
});

async function backendsWith(members: readonly string[], processId: number): Promise<number> {
  const counts = await Promise.all(members.map((member) => keyspace.backends(member, `pid = ${processId}`)));
  return counts.reduce((sum, count) => sum + count, 0);
}

test('a member that takes no more connections gets room from roles that don’t use theirs', async () => {
  const member = 'one-eu-0';
  const crowd = 30;
  await keyspace.writeMap(keyspace.map({ poolSize: 40 }));
  const crowded = await keyspace.router('eu');
  const allow = (connections: number): Promise<unknown> =>
    keyspace.asOperator(member, (operator) =>
      operator.query(`alter database ${database} connection limit ${connections}`),
    );
  /** All at once: each keeps its connection until every one of them has one. */
  const use = async (user: string): Promise<void> => {
    const clients = await Promise.all(Array.from({ length: crowd }, () => crowded.connect(user)));
    await Promise.all(clients.map((client) => client.query("begin; /* tenant='acme' */ select from accounts limit 1")));
    assert.ok((await keyspace.backends(member, `usename = '${user}'`)) >= crowd);
    await Promise.all(clients.map((client) => client.query('commit')));
    await Promise.all(clients.map((client) => client.end()));
  };
  try {
    // Room for one of the crowds, not for both; its limit is refused with the same SQLSTATE as max_connections.
    await allow((await keyspace.backends(member)) + crowd + 10);
    await use('acme_app');
    await use('any_app');
    assert.ok((await keyspace.backends(member, "usename = 'acme_app'")) < crowd);
    await use('acme_app');
  } finally {
    await allow(-1);
    await keyspace.writeMap();
    // Nobody else would get a connection as long as it has them all.
    await crowded.worker.stop(0);
  }
});

describe('prepared statements', () => {
  test('work on whatever backend the session gets, in transactions and out of them', async () => {
    const clients = await Promise.all(Array.from({ length: 12 }, () => router.connect('acme_app')));
    await Promise.all(
      clients.map(async (client, index) => {
        for (let round = 0; round < 20; round++) {
          const { rows } = await client.query<{ sum: string }>({
            name: `by-owner-${index % 3}`,
            text: `select ${index % 3} + sum(balance) as sum from accounts where id < $1`,
            values: [3],
          });
          assert.equal(Number(rows[0]?.sum), 30 + (index % 3));
        }
      }),
    );
    await Promise.all(clients.map((client) => client.end()));
  });

  test('a tenant in a parameter decides for each execution anew', async () => {
    await router.with('any_app', async (client) => {
      for (const tenant of ['acme', 'bolt', 'acme', 'cord', 'bolt']) {
        const { rows } = await client.query<{ tenant_id: string }>({
          name: 'by-tenant',
          text: 'select tenant_id from accounts where tenant_id = $1',
          values: [tenant],
        });
        assert.deepEqual([...new Set(rows.map((row) => row.tenant_id))], [tenant]);
      }
    });
  });

  test('one that failed to be made is not there, and can be made rightly afterwards', async () => {
    await router.with('acme_app', async (client) => {
      await assert.rejects(
        client.query({ name: 'late', text: 'select no_such_column from accounts' }),
        refused('42703'),
      );
      const { rows } = await client.query({ name: 'late', text: 'select 7 as seven' });
      assert.deepEqual(rows, [{ seven: 7 }]);
    });
  });

  test('a changed table is no error outside transactions: the statement is made anew', async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => router.connect('acme_app')));
    const query = { name: 'whole-accounts', text: 'select * from accounts where id < 3' };
    const fields = async (client: pg.Client): Promise<number> => (await client.query(query)).fields.length;
    // Often enough to be known as quick, and to be there on every connection.
    for (let round = 0; round < 30; round++) await Promise.all(clients.map(fields));
    const before = await fields(clients[0] as pg.Client);
    for (const more of [1, 2]) {
      await keyspace.asOperator('one-eu-0', (operator) =>
        operator.query(`alter table accounts add column more_${more} integer`),
      );
      for (let round = 0; round < 5; round++)
        assert.deepEqual(
          await Promise.all(clients.map(fields)),
          [1, 2, 3, 4].map(() => before + more),
        );
    }
    // In a transaction of the client's it is Postgres' own error, and it works in the next.
    const [client] = clients as [pg.Client];
    await client.query('begin');
    await client.query(query);
    await client.query('savepoint s');
    await client.query('rollback');
    for (const column of ['more_1', 'more_2'])
      await keyspace.asOperator('one-eu-0', (operator) => operator.query(`alter table accounts drop column ${column}`));
    await client.query('begin');
    await assert.rejects(client.query(query), refused('0A000'));
    await client.query('rollback');
    await client.query('begin');
    assert.equal((await client.query({ ...query, name: 'whole-accounts-2' })).fields.length, before);
    await client.query('commit');
    assert.deepEqual(
      await Promise.all(clients.map(fields)),
      [1, 2, 3, 4].map(() => before),
    );
    for (const one of clients) await one.end();
  });

  test('a changed table does not leave a session with a plan that can never work again', async () => {
    await router.with('acme_app', async (client) => {
      const query = { name: 'all-notes', text: 'select * from notes where id < 0' };
      await client.query(query);
      await keyspace.asOperator('one-eu-0', (operator) =>
        operator.query('alter table notes add column if not exists extra text'),
      );
      await client.query(query).catch(() => undefined);
      await client.query('deallocate "all-notes"').catch(() => undefined);
    });
    await router.with('acme_app', async (client) => {
      for (let round = 0; round < 8; round++) {
        const { fields } = await client.query({ name: 'all-notes', text: 'select * from notes where id < 0' });
        assert.equal(fields.length, 4);
      }
    });
  });
});

describe('errors and big answers', () => {
  test('an error of Postgres arrives with all its fields', async () => {
    await router.with('acme_app', async (client) => {
      await assert.rejects(client.query("select fail('it broke')"), (error: unknown) => {
        const { code, message, detail, hint, table, severity, where } = error as Record<string, string>;
        assert.deepEqual(
          { code, message, detail, hint, table, severity },
          {
            code: 'P0042',
            message: 'it broke',
            detail: 'the detail',
            hint: 'the hint',
            table: 'accounts',
            severity: 'ERROR',
          },
        );
        assert.match(String(where), /fail\(text\)/);
        return true;
      });
      await assert.rejects(client.query('select 1 frm x y'), (error: unknown) => {
        assert.equal((error as { code: string }).code, '42601');
        assert.ok(Number((error as { position: string }).position) > 1);
        return true;
      });
    });
  });

  test('a 40 MB row comes through whole', async () => {
    await router.with('acme_app', async (client) => {
      const value = await one(client, "select repeat('x', 40000000)");
      assert.equal(String(value).length, 40_000_000);
    });
  });

  test('a query of several statements is one transaction, and its settings follow it', async () => {
    await router.with('acme_app', async (client) => {
      await assert.rejects(
        client.query("insert into accounts (tenant_id, id) values ('acme', 700); select 1/0"),
        refused('22012'),
      );
      assert.equal(await one(client, 'select count(*)::int from accounts where id = 700'), 0);
      const results = (await client.query(
        "set meridian.consistency = 'eventual'; select 1 as a; select 2 as b; show meridian.served_by",
      )) as unknown as pg.QueryResult[];
      assert.deepEqual(
        results.map((result) => result.command),
        ['SET', 'SELECT', 'SELECT', 'SHOW'],
      );
      await client.query("begin; insert into accounts (tenant_id, id) values ('acme', 701); rollback");
      assert.equal(await one(client, 'select count(*)::int from accounts where id = 701'), 0);
    });
  });
});

describe('leaving', () => {
  test('a client that goes in the middle of a query leaves no connection that still works for it', async () => {
    const own = await keyspace.router('eu');
    const clients = await Promise.all(Array.from({ length: 3 }, () => own.connect('acme_app')));
    // Nothing but reads, so that it may be cancelled, and of a tenant's table, so that no other shard's member runs it.
    const sql = "select count(*), pg_sleep(600) from accounts where tenant_id = 'acme' /* hang up */";
    let failed: unknown;
    for (const client of clients)
      client.query(sql).catch((error: unknown) => {
        failed ??= error;
      });
    await waitFor(async () => {
      if (failed !== undefined) throw failed;
      return (await keyspace.backends('one-eu-0', "state = 'active' and query like '%hang up%'")) === 3;
    });
    for (const client of clients)
      (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    await waitFor(async () => (await keyspace.backends('one-eu-0', "query like '%hang up%'")) === 0);
    await waitFor(async () => own.worker.metrics.get('clients') === 0);
  });

  test('a client that goes within a transaction leaves nothing of it', async () => {
    const client = await router.connect('acme_app');
    await client.query('begin');
    await client.query("insert into accounts (tenant_id, id) values ('acme', 800)");
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    await waitFor(async () => (await keyspace.backends('one-eu-0', "state like 'idle in transaction%'")) === 0);
    await router.with('acme_app', async (other) =>
      assert.equal(await one(other, 'select count(*)::int from accounts where id = 800'), 0),
    );
  });

  test('SIGTERM lets a transaction end and refuses what comes after', async () => {
    const own = await keyspace.router('eu');
    const busy = await own.connect('acme_app');
    const idle = await own.connect('acme_app');
    const idleErrors: unknown[] = [];
    idle.on('error', (error) => idleErrors.push((error as { code?: string }).code));
    await busy.query('begin');
    await busy.query("insert into accounts (tenant_id, id) values ('acme', 810)");
    const stopped = own.worker.stop(60_000);
    await waitFor(async () => idleErrors.includes('57P01'));
    await assert.rejects(own.connect('acme_app'));
    await busy.query('commit');
    await stopped;
    await router.with('acme_app', async (client) => {
      assert.equal(await one(client, 'select count(*)::int from accounts where id = 810'), 1);
      await client.query('delete from accounts where id = 810');
    });
  });
});
