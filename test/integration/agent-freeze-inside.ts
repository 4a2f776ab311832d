/**
 * Runs in the container of `agent-freeze.test.ts`, beside a Postgres whose followers never answer: a commit waits, every client
 * is frozen, and one that is frozen is asked for what the waiting one wrote. Prints what was seen as one line of JSON.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { environmentOfPostgres } from '#agent/configuration.ts';
import { freezeClients, signal } from '#agent/postgres/client-processes.ts';
import { renderParameters } from '#agent/postgres/configuration-files.ts';
import { runProgram } from '#agent/postgres/programs.ts';
import { PostgresServer } from '#agent/postgres/server.ts';
import { LocalSession } from '#agent/postgres/session.ts';
import { whichWait } from '#agent/postgres/waiting-commits.ts';
import { agentRole } from '#core/roles.ts';

const folder = '/lab';
const port = 5432;
const env = environmentOfPostgres(process.env);
const dataDirectory = `${folder}/data`;
const configFile = `${folder}/postgresql.conf`;
const place = { host: folder, port, user: agentRole, database: 'postgres' };

const server = new PostgresServer({ dataDirectory, configFile, env, onExit: () => {} });
const session = new LocalSession(folder, port);
const countSql = 'select count(*)::int as rows from notes where id = $1';

async function prepare(): Promise<void> {
  await runProgram('initdb', ['-D', dataDirectory, '-U', agentRole, '--auth=trust', '--no-sync'], { env });
  const settings = {
    unix_socket_directories: folder,
    listen_addresses: '',
    hba_file: `${dataDirectory}/pg_hba.conf`,
    fsync: 'off',
    synchronous_standby_names: 'nobody',
  };
  await writeFile(configFile, renderParameters(settings));
  server.start();
  await untilTrue(() =>
    session.query('select').then(
      () => true,
      () => false,
    ),
  );
  await session.query('set synchronous_commit = local');
  await session.query('create table notes (id int primary key)');
}

async function untilTrue(isSo: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 20_000;
  while (!(await isSo())) {
    if (performance.now() > giveUpAt) throw new Error('it does not come');
    await sleep(20);
  }
}

const connected = async (): Promise<pg.Client> => {
  const client = new pg.Client(place);
  client.on('error', () => {});
  await client.connect();
  return client;
};
const pidOf = (client: pg.Client): number => (client as unknown as { processID: number }).processID;
const outcome = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'answered',
    () => 'cut',
  );

/** A commit that waits, and somebody who asks for it once both are frozen. */
async function frozenPair(id: number): Promise<{
  readonly waiting: readonly number[];
  readonly frozen: readonly number[];
  readonly waiter: pg.Client;
  readonly ended: Promise<readonly string[]>;
  readonly asked: Promise<string>;
}> {
  const [waiter, reader] = [await connected(), await connected()];
  const waiting = outcome(waiter.query('insert into notes values ($1)', [id]));
  await untilTrue(async () => {
    const rows = await session.query("select from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'", [
      pidOf(waiter),
    ]);
    return rows.length === 1;
  });
  const frozen = await freezeClients(session, server.pid ?? 0);
  const waitingOnes = await whichWait(session, frozen);
  const asked = outcome(reader.query(countSql, [id]));
  return { waiting: waitingOnes, frozen, waiter, asked, ended: Promise.all([waiting, asked]) };
}

/** proc(5): T is stopped. */
const stateOf = (pid: number): string => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2] ?? '';
  } catch {
    return '';
  }
};

/** Looks as often as it can until `end`: whether one of `late` was ever not stopped while one of `early` was there. */
async function seenAwakeBeside(
  late: readonly number[],
  early: readonly number[],
  end: Promise<void>,
): Promise<boolean> {
  const watch = { isOver: false, seen: false };
  const ended = end.finally(() => {
    watch.isOver = true;
  });
  while (!watch.isOver) {
    // The late ones first: an early one that is there afterwards was there at that look.
    const isAwake = late.some((pid) => stateOf(pid) !== 'T');
    if (isAwake && early.some((pid) => !['', 'Z'].includes(stateOf(pid)))) watch.seen = true;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  return watch.seen;
}

const rowsSeen = async (id: number): Promise<number> =>
  (await session.query<{ rows: number }>(countSql, [id]))[0]?.rows ?? -1;

await prepare();
// Its end alone makes the row visible: to the agent's session, which is not frozen.
const first = await frozenPair(1);
const beforeItsEnd = await rowsSeen(1);
signal(pidOf(first.waiter), 'SIGTERM');
signal(pidOf(first.waiter), 'SIGCONT');
await untilTrue(async () => (await rowsSeen(1)) === 1);
const whileFrozen = await Promise.race([first.asked, sleep(500, 'silent')]);
for (const pid of first.frozen) signal(pid, 'SIGTERM');
for (const pid of first.frozen) signal(pid, 'SIGCONT');
const afterwards = await first.ended;
// The whole stop.
const second = await frozenPair(2);
void session.close();
const waiters = second.waiting;
const others = second.frozen.filter((pid) => !waiters.includes(pid));
const stopping = server.stop(10_000, [others, waiters]);
const wokenEarly = await seenAwakeBeside(waiters, others, stopping);
const stopped = await second.ended;
console.log(JSON.stringify({ beforeItsEnd, whileFrozen, afterwards, waiters: waiters.length, wokenEarly, stopped }));
