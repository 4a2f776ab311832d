/**
 * Recorder, workloads and judges together on a real Postgres that is killed and started again in the middle: all judges
 * accept one that keeps its word, and one that acknowledges before it has flushed is caught losing writes.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { buildImages } from '../../images/build.ts';
import { Fleet } from './fleet.ts';
import { judgeAll } from './judge.ts';
import { type FinalState, finalStateSql, parseFinalState } from './judges/final-state.ts';
import type { Verdict } from './judges/verdict.ts';
import type { Door } from './session.ts';
import { historyTables } from './workload.ts';

// No helper container that would have to be pulled; what is started is stopped.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

const folderInImage = '/var/lib/meridian';
const pgdata = `${folderInImage}/pgdata`;
const userId = '10001:10001';
const PORT = 5432;
const PART_MS = 3_000;

/** A Postgres that is started again whenever it ends. */
const script = [
  `initdb -D ${pgdata} -U history --auth=trust --no-sync >/dev/null`,
  `echo 'host all all all trust' >>${pgdata}/pg_hba.conf`,
  `while true; do postgres -D ${pgdata} -c listen_addresses='*' -c unix_socket_directories=/tmp; sleep 0.2; done`,
].join(' && ');

describe('histories of a real Postgres that is killed', () => {
  let container: StartedTestContainer;
  let folder: string;

  const door: Door = {
    name: 'direct',
    open: async () => {
      const host = container.getHost();
      const port = container.getMappedPort(PORT);
      const client = new pg.Client({
        host,
        port,
        user: 'history',
        database: 'postgres',
        connectionTimeoutMillis: 2_000,
      });
      client.on('error', () => {});
      await client.connect();
      return client;
    },
  };
  const once = async (sql: string): Promise<pg.QueryResult> => {
    const client = await door.open();
    try {
      return await client.query(sql);
    } finally {
      await client.end();
    }
  };

  before(async () => {
    const { postgres } = await buildImages({ only: 'postgres' });
    container = await new GenericContainer(postgres)
      .withEntrypoint(['sh', '-c', script])
      .withUser(userId)
      .withTmpFs({ [folderInImage]: 'rw,uid=10001,gid=10001,mode=0700' })
      .withExposedPorts(PORT)
      .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/))
      .withStartupTimeout(180_000)
      .start();
    folder = await mkdtemp(join(tmpdir(), 'meridian-history-'));
    await once(historyTables);
  });
  after(async () => {
    await container.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** Half of the load, a kill of every process of Postgres at once, the other half. */
  async function runThroughKill(
    run: number,
  ): Promise<{ verdicts: readonly Verdict[]; reconnected: number; acknowledged: number }> {
    const fleet = new Fleet({ doors: [door], run, seed: run, folder: join(folder, String(run)), pauseMs: 5 });
    await fleet.start();
    await sleep(PART_MS);
    await container.exec(['sh', '-c', `kill -9 $(head -1 ${pgdata}/postmaster.pid)`]);
    await sleep(PART_MS);
    await fleet.stop();
    const { rows } = await once(finalStateSql(run));
    const final: FinalState = parseFinalState('postgres', (rows[0] as { state: object }).state);
    const histories = new Map(fleet.workloads.map(({ name, recorder }) => [name, recorder.entries]));
    const acknowledged = (histories.get('set') ?? []).filter(({ type, f }) => type === 'ok' && f === 'add').length;
    return { verdicts: await judgeAll(histories, [final]), reconnected: fleet.reconnected(), acknowledged };
  }

  it('every judge accepts a Postgres that flushes before it acknowledges', async (context) => {
    const { verdicts, reconnected, acknowledged } = await runThroughKill(1);
    for (const verdict of verdicts) {
      assert.equal(verdict.valid, true, `${verdict.judge}: ${verdict.findings.join('\n')}`);
      assert.ok(verdict.operations > 0, `${verdict.judge} saw nothing`);
    }
    context.diagnostic(`${acknowledged} elements acknowledged, ${reconnected} sessions had to connect anew`);
    assert.ok(reconnected > 0, 'nobody noticed the kill: nothing was tested');
    assert.ok(acknowledged > 100, `only ${acknowledged} elements were added`);
  });

  it('a Postgres that acknowledges before it flushes is caught', async () => {
    await once('alter system set synchronous_commit = off');
    await once("alter system set wal_writer_delay = '10s'");
    await once("alter system set wal_writer_flush_after = '1GB'");
    await once('select pg_reload_conf()');
    const { verdicts } = await runThroughKill(2);
    const rejected = verdicts.filter(({ valid }) => valid === false);
    const [durability] = verdicts;
    assert.equal(durability?.valid, false, 'no write was lost, or nobody saw it');
    assert.match(durability.findings.join('\n'), /was acknowledged and is lost/);
    assert.ok(rejected.length >= 3, `only ${rejected.map(({ judge }) => judge).join(', ')} saw it`);
  });
});
