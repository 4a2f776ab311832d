/** The router as its program is run: environment, probes, metrics, SIGTERM; and psql and pgbench of the Postgres image as its clients. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { database, password, RouterKeyspace } from './router-keyspace.ts';
import { RouterProcess } from './router-process.ts';

const port = 26_432;
const httpPort = 26_433;
let keyspace: RouterKeyspace;
let program: RouterProcess;

before(async () => {
  keyspace = await RouterKeyspace.start();
  program = await RouterProcess.start(keyspace, { port, httpPort, environment: { MERIDIAN_DRAIN_SECONDS: '5' } });
});
after(async () => {
  program?.kill();
  await keyspace?.stop();
});

/** Runs a client of the Postgres image against the router. */
async function client(user: string, command: string[], input = ''): Promise<{ exitCode: number; output: string }> {
  const { container } = keyspace.member('one-eu-0');
  const environment = {
    PGHOST: 'host.router',
    PGHOSTADDR: gateway(keyspace.member('one-eu-0').address),
    PGPORT: String(port),
    PGUSER: user,
    PGPASSWORD: password,
    PGDATABASE: database,
    PGSSLMODE: 'verify-ca',
    PGSSLROOTCERT: '/etc/meridian/tls/ca.crt',
  };
  const script = `cat >/tmp/input <<'END_OF_INPUT'\n${input}\nEND_OF_INPUT\n${command.join(' ')}`;
  const { exitCode, output } = await container.exec(['bash', '-c', script], {
    env: environment,
  });
  return { exitCode, output };
}

/** The machine, as containers on the default bridge see it. */
const gateway = (address: string): string => address.replace(/\.\d+$/, '.1');

describe('probes and metrics', () => {
  test('say that it lives, is ready, and what it counted', async () => {
    assert.deepEqual(
      await Promise.all(['/livez', '/readyz', '/nothing'].map((path) => program.status(path))),
      [200, 200, 404],
    );
    const text = await program.metricsText();
    assert.match(text, /^meridian_router_tenants 3$/m);
    assert.match(text, /^# TYPE meridian_router_logins_total counter$/m);
    assert.match(text, /^# TYPE meridian_router_shard_epoch gauge\nmeridian_router_shard_epoch\{shard="one"\} 1$/m);
    assert.match(text, /^meridian_router_held_transactions 0$/m);
  });
});

describe('clients', () => {
  test('psql runs statements, describes tables, and shows errors as Postgres words them', async () => {
    const { output } = await client(
      'acme_app',
      ['psql -X -f /tmp/input 2>&1'],
      `insert into accounts (tenant_id, id, owner) select 'acme', n, 'o' || n from generate_series(1, 500) n;
       select count(*) from accounts;
       \\d accounts
       \\dt
       select nosuch from accounts;
       begin; select 1; commit;
       \\copy (select id from accounts order by id limit 2) to stdout
       show meridian.served_by;`,
    );
    assert.match(output, /INSERT 0 500/);
    assert.match(output, /Table "public.accounts"/);
    assert.match(output, /public \| currencies/);
    assert.match(output, /ERROR: {2}column "nosuch" does not exist/);
    assert.match(output, /^1\n2$/m);
    assert.match(output, /member=one-eu-0 shard=one region=eu role=primary/);
  });

  for (const mode of ['simple', 'extended', 'prepared'])
    for (const user of ['acme_app', 'any_app'])
      test(`pgbench -M ${mode} as ${user} runs without a failure`, async () => {
        const { exitCode, output } = await client(
          user,
          [`pgbench -n -M ${mode} -f /tmp/input -c 8 -t 200 2>&1`],
          `\\set id random(1, 500)\nselect balance from accounts where tenant_id = 'acme' and id = :id;`,
        );
        assert.equal(exitCode, 0, output);
        assert.match(output, /number of transactions actually processed: 1600\/1600/);
        assert.match(output, /number of failed transactions: 0/);
      });

  test('pgbench with transactions of several statements keeps its sums', async () => {
    const { exitCode, output } = await client(
      'acme_app',
      // More clients than backends. Not -M prepared: pgbench then stands still for all its clients while one waits for a backend.
      ['pgbench -n -M extended -f /tmp/input -c 12 -t 25 2>&1'],
      `\\set from random(1, 500)
       begin;
       update accounts set balance = balance - 1 where tenant_id = 'acme' and id = :from;
       insert into notes (tenant_id, body) values ('acme', 'moved');
       update accounts set balance = balance + 1 where tenant_id = 'acme' and id = :from;
       commit;`,
    );
    assert.equal(exitCode, 0, output);
    const { output: sums } = await client('acme_app', [
      `psql -X -At -c "select sum(balance), (select count(*) from notes where body = 'moved') from accounts" 2>&1`,
    ]);
    assert.equal(sums.trim(), '0|300');
  });
});

test('SIGTERM ends it in order', async () => {
  program.terminate();
  assert.equal(await program.ended(), 0, program.log);
  assert.match(program.log, /"msg":"stopped"/);
});
