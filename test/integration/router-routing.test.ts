/** Where the router sends statements, by tenant and level, and whom it lets in. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { one, refused, waitFor } from './router-assertions.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
let ap: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  ap = await keyspace.router('ap');
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

/** What a fresh connection is refused with. */
async function refusal(user: string, more: pg.ClientConfig = {}): Promise<string> {
  try {
    await router.with(user, (client) => client.query('select 1'), more);
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return 'admitted';
}

describe('the tenant of a statement', () => {
  test('a role fixed to a tenant sees that tenant only, wherever it lives', async () => {
    for (const [role, tenant, shard] of [
      ['acme_app', 'acme', 'one'],
      ['bolt_app', 'bolt', 'two'],
    ] as const)
      await router.with(role, async (client) => {
        assert.equal(await one(client, 'select string_agg(distinct tenant_id, $$,$$) from accounts'), tenant);
        assert.match(String(await one(client, 'show meridian.served_by')), new RegExp(`shard=${shard} .*role=primary`));
        assert.equal(await one(client, 'show meridian.tenant'), tenant);
      });
  });

  test('comes from the statement, a bound parameter, a comment, SET, or the start-up option', async () => {
    await router.with('any_app', async (client) => {
      const found = [
        await one(client, "select min(tenant_id) from accounts where tenant_id = 'acme'"),
        await one(client, 'select min(tenant_id) from accounts where tenant_id = $1', ['bolt']),
        await one(client, "/* tenant='cord' */ select min(tenant_id) from accounts"),
      ];
      await client.query("set meridian.tenant = 'bolt'");
      found.push(await one(client, 'select min(tenant_id) from accounts'));
      assert.deepEqual(found, ['acme', 'bolt', 'cord', 'bolt']);
    });
    await router.with(
      'any_app',
      async (client) => assert.equal(await one(client, 'select min(tenant_id) from accounts'), 'cord'),
      { options: '-c meridian.tenant=cord' },
    );
  });

  test('without one a statement over tenant tables is refused, and one over none just works', async () => {
    await router.with('any_app', async (client) => {
      await assert.rejects(client.query('select * from accounts'), refused('MD003'));
      assert.equal(await one(client, 'select 1'), 1);
      assert.equal(await one(client, 'select count(*)::int from currencies'), 2);
      assert.ok(Number(await one(client, 'select count(*) from pg_class')) > 0);
    });
  });

  test('that does not exist, is not the role’s, or is not the session’s is refused', async () => {
    await router.with('any_app', async (client) => {
      await assert.rejects(client.query("select * from accounts where tenant_id = 'nobody'"), refused('MD002'));
      await assert.rejects(client.query("set meridian.tenant = 'nobody'"), refused('MD002'));
      await client.query("set meridian.tenant = 'acme'");
      await assert.rejects(client.query("select * from accounts where tenant_id = 'bolt'"), refused('MD004'));
    });
    await router.with('pair_app', async (client) => {
      await assert.rejects(client.query("select * from accounts where tenant_id = 'cord'"), refused('42501'));
      await assert.rejects(client.query("/* tenant='cord' */ select * from accounts"), refused('42501'));
      await assert.rejects(client.query("set meridian.tenant = 'cord'"), refused('42501'));
    });
    await router.with('acme_app', async (client) => {
      await assert.rejects(client.query("set meridian.tenant = 'bolt'"), refused('42501'));
      await assert.rejects(client.query("select * from accounts where tenant_id = 'bolt'"), refused('MD004'));
    });
  });

  test('another in the same transaction aborts it, and nothing of it is kept', async () => {
    await router.with('any_app', async (client) => {
      await client.query('begin');
      await client.query("insert into accounts (tenant_id, id) values ('acme', 900)");
      await assert.rejects(client.query("select * from accounts where tenant_id = 'bolt'"), refused('MD004'));
      await assert.rejects(client.query('select 1'), refused('25P02'));
      assert.equal((await client.query('commit')).command, 'ROLLBACK');
      assert.equal(await one(client, "select count(*)::int from accounts where tenant_id = 'acme' and id = 900"), 0);
    });
  });

  test('is left alone by a refused statement that goes back to a savepoint', async () => {
    await router.with('any_app', async (client) => {
      await client.query('begin');
      await client.query("insert into accounts (tenant_id, id) values ('acme', 901)");
      await client.query('savepoint here');
      await assert.rejects(client.query("select * from accounts where tenant_id = 'bolt'"), refused('MD004'));
      await client.query('rollback to savepoint here');
      await client.query("update accounts set balance = 5 where tenant_id = 'acme' and id = 901");
      await client.query('commit');
      assert.equal(await one(client, "select balance::int from accounts where tenant_id = 'acme' and id = 901"), 5);
      await client.query("delete from accounts where tenant_id = 'acme' and id = 901");
    });
  });
});

describe('consistency', () => {
  test('eventual reads go to the nearest follower, strong ones and writes to the primary', async () => {
    await ap.with('acme_app', async (client) => {
      const servedBy = async (): Promise<string> => String(await one(client, 'show meridian.served_by'));
      await client.query('select * from accounts');
      assert.match(await servedBy(), /member=one-eu-0 .*role=primary/);
      await client.query("set meridian.consistency = 'eventual'");
      // Until it is known where the primary was then, nobody else surely has what was read there.
      await waitFor(async () => {
        await client.query('select * from accounts');
        return /member=one-ap-0 shard=one region=ap role=follower/.test(await servedBy());
      });
      await client.query('update accounts set balance = balance where id = 1');
      assert.match(await servedBy(), /role=primary/);
      await client.query("/* consistency='strong' */ select * from accounts");
      assert.match(await servedBy(), /role=primary/);
      await client.query('select * from accounts for update');
      assert.match(await servedBy(), /role=primary/);
    });
  });

  test('a shard without followers answers eventual reads from its primary', async () => {
    await ap.with('bolt_app', async (client) => {
      await client.query("set meridian.consistency = 'eventual'");
      assert.equal(await one(client, 'select count(*)::int from accounts'), 2);
      assert.match(String(await one(client, 'show meridian.served_by')), /member=two-us-0 .*role=primary/);
    });
  });

  test('a read-only transaction goes where its level says, another to the primary, and writes there are refused', async () => {
    await ap.with('acme_app', async (client) => {
      await client.query("set meridian.consistency = 'eventual'");
      await client.query('begin');
      await client.query('select * from accounts');
      assert.match(String(await one(client, 'show meridian.served_by')), /role=primary/);
      await client.query('commit');
      // Once the follower is known to have what was read at the primary.
      await waitFor(async () => {
        await client.query('begin read only');
        await client.query('select * from accounts');
        if (/role=follower/.test(String(await one(client, 'show meridian.served_by')))) return true;
        await client.query('commit');
        return false;
      });
      await assert.rejects(client.query('delete from accounts'), refused('25006'));
      await client.query('rollback');
    });
  });

  test('SET LOCAL and a rolled-back SET last no longer than their transaction', async () => {
    await router.with('acme_app', async (client) => {
      await client.query('begin');
      await client.query("set local meridian.consistency = 'eventual'");
      assert.equal(await one(client, 'show meridian.consistency'), 'eventual');
      await client.query('commit');
      assert.equal(await one(client, 'show meridian.consistency'), 'strong');
      await client.query('begin');
      await client.query("set meridian.consistency = 'eventual'");
      await client.query('rollback');
      assert.equal(await one(client, 'show meridian.consistency'), 'strong');
    });
  });

  test('a level that there is not is refused', async () => {
    await router.with('acme_app', async (client) => {
      await assert.rejects(client.query("set meridian.consistency = 'sometimes'"), refused('22023'));
    });
  });
});

describe('logging in', () => {
  test('a wrong password, an unknown role and an unknown database are refused alike or by name', async () => {
    assert.equal(await refusal('acme_app', { password: 'wrong' }), '28P01');
    assert.equal(await refusal('nobody'), '28P01');
    assert.equal(await refusal('meridian_operator'), '28P01');
    assert.equal(await refusal('acme_app', { database: 'postgres' }), '3D000');
    assert.equal(await refusal('acme_app', { ssl: false }), '28000');
  });

  test('start-up options can not widen what the login allows', async () => {
    assert.equal(await refusal('acme_app', { options: '-c meridian.tenant=bolt' }), '42501');
    assert.equal(await refusal('pair_app', { options: '-c meridian.tenant=cord' }), '42501');
    assert.equal(await refusal('acme_app', { options: '-c role=meridian_owner' }), '42501');
    assert.equal(await refusal('acme_app', { options: '-c synchronous_commit=off' }), '42501');
    assert.equal(await refusal('acme_app', { options: '-c meridian.nonsense=1' }), '42704');
  });

  test('a client beyond the bound is refused', async () => {
    const { writeMap, map } = { writeMap: keyspace.writeMap.bind(keyspace), map: keyspace.map.bind(keyspace) };
    const own = await keyspace.router('eu');
    const kept = await own.connect('acme_app');
    await writeMap(map({ maxClients: 1 }));
    // Until the router has read it, it lets others in.
    await waitFor(() =>
      own.with('acme_app', () => Promise.resolve(false)).catch((error: unknown) => refused('53300')(error)),
    );
    await kept.end();
    await writeMap();
    await waitFor(() => own.with('acme_app', () => Promise.resolve(true)).catch(() => false));
  });
});
