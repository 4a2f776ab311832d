import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import type { SchemaWish, SetUpShards, ShardTarget } from '#operator/controllers/keyspace/actions.ts';
import { routersLearnMs, ShardLedger } from '#operator/controllers/keyspace/ledger.ts';
import {
  digestOfAccepted,
  type SetUpDeps,
  type ShardSession,
  setUpShards,
} from '#operator/controllers/keyspace/set-up-shards.ts';

/** A shard that remembers what was done to it, in the order over all shards. */
interface Fake {
  applied: number;
  failsAt?: number;
  refusesConnections?: boolean;
  failsRoles?: boolean;
}

let shards: Record<string, Fake>;
let log: string[];
let ledger: ShardLedger;
let openSessions: number;

beforeEach(() => {
  shards = { a: { applied: 0 }, b: { applied: 0 } };
  log = [];
  ledger = new ShardLedger();
  openSessions = 0;
});

const target = (name: string, over: Partial<ShardTarget> = {}): ShardTarget => ({
  name,
  uid: `uid-${name}`,
  ordinal: name.charCodeAt(0) - 97,
  epoch: 1,
  incarnation: '0123456789abcdef',
  member: { namespace: 'prod', keyspace: 'shop', member: `${name}-eu-0`, address: '10.0.0.1' },
  recorded: 0,
  ...over,
});

const wish = (over: Partial<SchemaWish> = {}): SchemaWish => ({
  database: 'shop',
  tenantKey: { column: 'tenant_id', type: 'text' },
  migrations: [1, 2, 3].map((n) => ({ name: `m${n}`, sql: `sql ${n}` })),
  hasAllMigrations: true,
  referenceTables: [],
  roles: [{ name: 'app', secret: 's', anyTenant: true }],
  ...over,
});

const action = (over: Partial<SetUpShards> = {}): SetUpShards => ({
  kind: 'setUpShards',
  wish: wish(),
  shards: [target('a'), target('b')],
  away: [],
  ...over,
});

const deps = (over: Partial<SetUpDeps> = {}): SetUpDeps => ({
  ledger,
  accepted: new Map([['app', { verifier: 'v1' }]]),
  nowMs: () => 1000,
  signal: new AbortController().signal,
  openSession: async ({ name }) => open(name),
  ...over,
});

async function open(name: string): Promise<ShardSession> {
  const shard = shards[name];
  assert.ok(shard !== undefined);
  if (shard.refusesConnections === true) throw new Error('connection refused');
  openSessions++;
  return {
    install: () => Promise.resolve(shard.applied),
    migrate(upTo) {
      while (shard.applied < upTo) {
        if (shard.failsAt === shard.applied + 1)
          return Promise.resolve({
            applied: shard.applied,
            failure: { name: `m${shard.failsAt}`, reason: 'SqlError', message: 'no' },
          });
        shard.applied++;
        log.push(`${name}${shard.applied}`);
      }
      return Promise.resolve({ applied: shard.applied, failure: undefined });
    },
    protect: () => Promise.resolve(),
    applyRoles() {
      if (shard.failsRoles === true) return Promise.reject(new Error('roles'));
      log.push(`${name} roles`);
      return Promise.resolve();
    },
    end() {
      openSessions--;
      return Promise.resolve();
    },
  };
}

describe('setting up the shards of a keyspace', () => {
  test('each migration is everywhere before the next begins', async () => {
    const outcome = await setUpShards(action(), deps());
    assert.deepEqual(
      log.filter((line) => !line.includes('roles')),
      ['a1', 'b1', 'a2', 'b2', 'a3', 'b3'],
    );
    assert.deepEqual(outcome, {
      shards: [
        { name: 'a', applied: 3 },
        { name: 'b', applied: 3 },
      ],
      waitingFor: [],
    });
    assert.equal(openSessions, 0);
  });

  test('a migration that fails on one shard begins nowhere else, and roles are applied all the same', async () => {
    shards = { a: { applied: 0, failsAt: 2 }, b: { applied: 0 } };
    const outcome = await setUpShards(action(), deps());
    assert.deepEqual([shards['a']?.applied, shards['b']?.applied], [1, 1]);
    assert.deepEqual(outcome.shards[0]?.failedMigration, { name: 'm2', reason: 'SqlError', message: 'no' });
    assert.ok(log.includes('a roles') && log.includes('b roles'));
  });

  test('a migration that fails on the second shard leaves the keyspace one step apart and no further', async () => {
    shards = { a: { applied: 0 }, b: { applied: 0, failsAt: 2 } };
    await setUpShards(action(), deps());
    assert.deepEqual([shards['a']?.applied, shards['b']?.applied], [2, 1]);
    // Mended: it catches up, and all go on.
    shards['b'] = { applied: 1 };
    const outcome = await setUpShards(action(), deps());
    assert.deepEqual(
      outcome.shards.map(({ applied }) => applied),
      [3, 3],
    );
  });

  test('a shard with a schema that is away holds new migrations back', async () => {
    const away = [{ name: 'b', ordinal: 1, migrations: 1, ready: false }];
    shards = { a: { applied: 1 } };
    const outcome = await setUpShards(action({ shards: [target('a')], away }), deps());
    assert.deepEqual(outcome.waitingFor, ['b']);
    assert.equal(shards['a']?.applied, 1);
  });

  test('a shard that refuses connections is a problem of its own', async () => {
    shards = { a: { applied: 3 }, b: { applied: 3, refusesConnections: true } };
    const outcome = await setUpShards(action(), deps());
    assert.deepEqual(outcome.shards[1]?.problem, {
      step: 'connect',
      reason: 'ConnectionFailed',
      message: 'connection refused',
    });
    assert.equal(outcome.shards[0]?.problem, undefined);
    assert.equal(openSessions, 0);
  });

  test('one that does not answer keeps its recorded count, and holds new migrations back by it', async () => {
    shards = { a: { applied: 2 }, b: { applied: 2, refusesConnections: true } };
    const outcome = await setUpShards(action({ shards: [target('a'), target('b', { recorded: 2 })] }), deps());
    assert.equal(outcome.shards[1]?.applied, 2);
    assert.deepEqual(outcome.waitingFor, ['b']);
    assert.equal(shards['a']?.applied, 2);
  });

  test('what was done is not done again, until something is wished otherwise or the primary is another', async () => {
    await setUpShards(action(), deps());
    log = [];
    const again = await setUpShards(action(), deps());
    assert.deepEqual(log, []);
    assert.deepEqual(
      again.shards.map(({ applied }) => applied),
      [3, 3],
    );
    await setUpShards(action(), deps({ accepted: new Map([['app', { verifier: 'v2' }]]) }));
    assert.deepEqual(new Set(log), new Set(['a roles', 'b roles']));
    log = [];
    await setUpShards(
      action({ shards: [target('a', { epoch: 2 }), target('b')] }),
      deps({ accepted: new Map([['app', { verifier: 'v2' }]]) }),
    );
    assert.deepEqual(log, ['a roles']);
  });

  test('what failed is done again', async () => {
    shards = { a: { applied: 0 }, b: { applied: 0, failsRoles: true } };
    const outcome = await setUpShards(action(), deps());
    assert.equal(outcome.shards[1]?.problem?.step, 'roles');
    shards['b'] = { applied: 3 };
    log = [];
    assert.equal((await setUpShards(action(), deps())).shards[1]?.problem, undefined);
    assert.deepEqual(log, ['b roles']);
  });

  test('an applied migration that was changed is found though there is nothing to run', async () => {
    shards = { a: { applied: 3, failsAt: 3 }, b: { applied: 3 } };
    const seen: number[] = [];
    const session = async (name: string): Promise<ShardSession> => ({
      ...(await open(name)),
      migrate: (upTo) => {
        seen.push(upTo);
        return Promise.resolve({ applied: 3, failure: { name: 'm3', reason: 'Changed', message: 'other text' } });
      },
    });
    const outcome = await setUpShards(action(), deps({ openSession: ({ name }) => session(name) }));
    assert.equal(outcome.shards[0]?.failedMigration?.reason, 'Changed');
    assert.deepEqual(seen, [3, 3]);
  });

  test('while what one shard has applied is not what is declared, none runs anything', async () => {
    shards = { a: { applied: 2 }, b: { applied: 1 } };
    const openSession = async ({ name }: ShardTarget): Promise<ShardSession> => {
      const session = await open(name);
      if (name !== 'a') return session;
      const failure = { name: 'm2', reason: 'Changed', message: 'other text' };
      return { ...session, migrate: () => Promise.resolve({ applied: 2, failure }) };
    };
    const outcome = await setUpShards(action(), deps({ openSession }));
    assert.equal(outcome.shards[0]?.failedMigration?.reason, 'Changed');
    assert.deepEqual([shards['a']?.applied, shards['b']?.applied], [2, 1]);
  });

  test('where the end of the list cannot be read, a shard that is further on is left alone', async () => {
    shards = { a: { applied: 3 }, b: { applied: 3 } };
    const short = wish({ migrations: [{ name: 'm1', sql: 'sql 1' }], hasAllMigrations: false });
    const outcome = await setUpShards(action({ wish: short }), deps());
    assert.deepEqual(outcome.shards, [
      { name: 'a', applied: 3 },
      { name: 'b', applied: 3 },
    ]);
  });

  test('losing leadership stops it between two steps', async () => {
    const abort = new AbortController();
    abort.abort(new Error('not leading'));
    await assert.rejects(setUpShards(action(), deps({ signal: abort.signal })), /not leading/);
    assert.deepEqual(log, []);
    assert.equal(openSessions, 0);
  });

  test('verifiers count as accepted only when every shard has them, since the last one had', async () => {
    const digest = digestOfAccepted({ verifier: 'v1' });
    const primaries = ['a', 'b'].map((name) => ({
      uid: `uid-${name}`,
      epoch: 1,
      member: `${name}-eu-0`,
      incarnation: '0123456789abcdef',
    }));
    await setUpShards(action({ shards: [target('a')] }), deps({ nowMs: () => 1000 }));
    assert.equal(ledger.acceptedSinceMs('app', digest, primaries), undefined);
    await setUpShards(action(), deps({ nowMs: () => 9000 }));
    assert.equal(ledger.acceptedSinceMs('app', digest, primaries), 9000);
    assert.equal(ledger.acceptedSinceMs('app', digestOfAccepted({ verifier: 'v2' }), primaries), undefined);
    assert.ok(routersLearnMs >= 10_000);
  });
});
