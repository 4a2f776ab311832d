/**
 * The taint proof: many clients on few backends, each with marks of its own in everything that it asks for, while statements fail, time
 * out, are cancelled and pipelined, COPYs break, backends are killed and clients hang up. One foreign byte, and it fails.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { cancelRequest } from '#router/wire/startup.ts';
import { database, password, type RouterKeyspace, type TestRouter } from '../../integration/router-keyspace.ts';
import { RawClient } from '../../integration/router-raw-client.ts';
import { actions, type Stage } from './actions.ts';
import { type Tenant, tenants, Witness } from './witness.ts';

export interface TaintOptions {
  readonly clients: number;
  /** It goes on until so many messages have been looked through ... */
  readonly responses: number;
  /** ... or it has taken so long. */
  readonly maxMs: number;
  readonly seed: number;
  /** Called now and then. */
  readonly progress?: (counts: TaintCounts) => void;
  /** At once: the others have yet to end what they are at. */
  readonly failed?: (error: unknown) => void;
}

export interface TaintCounts {
  responses: number;
  cancels: number;
  hangUps: number;
  kills: number;
  /** Connections that the router, or the death of a kept backend, ended. */
  ended: number;
}

/** Longer than anything takes on a machine that is busy with other things. */
const patienceMs = Number(process.env['TAINT_PATIENCE'] ?? 120_000);

/** A small generator with a seed (mulberry32): the same seed makes the same choices. */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Rows for every tenant, of which marks are made. */
export async function prepareTaint(router: TestRouter): Promise<void> {
  await router.with('any_app', async (client) => {
    for (const tenant of tenants)
      await client.query(`insert into accounts (tenant_id, id, owner) select $1, n, $1 from generate_series(1, 50) n`, [
        tenant,
      ]);
  });
}

/** @throws AssertionError at the first foreign byte. */
export async function runTaint(
  keyspace: RouterKeyspace,
  router: TestRouter,
  options: TaintOptions,
): Promise<TaintCounts> {
  const counts: TaintCounts = { responses: 0, cancels: 0, hangUps: 0, kills: 0, ended: 0 };
  const deadline = performance.now() + options.maxMs;
  const isOver = (): boolean => counts.responses >= options.responses || performance.now() > deadline;
  const failures: unknown[] = [];
  const goOn = (): boolean => !isOver() && failures.length === 0;
  const clients = Array.from({ length: options.clients }, (_one, index) =>
    actor(keyspace, router, index, options.seed, counts, goOn).catch((error: unknown) => {
      failures.push(error);
      options.failed?.(error);
    }),
  );
  const killer = killNowAndThen(keyspace, counts, goOn);
  const reporter = setInterval(() => options.progress?.(counts), 10_000);
  await Promise.all([...clients, killer]);
  clearInterval(reporter);
  if (failures.length > 0) throw failures[0];
  return counts;
}

async function actor(
  keyspace: RouterKeyspace,
  router: TestRouter,
  index: number,
  seed: number,
  counts: TaintCounts,
  goOn: () => boolean,
): Promise<void> {
  const random = randomOf(seed + index);
  const tenant = tenants[index % tenants.length] as Tenant;
  const user = index % 4 === 0 && tenant !== 'cord' ? `${tenant}_app` : 'any_app';
  const witness = new Witness(index, tenant, seed);
  const prepared = new Set<string>();
  let client: RawClient | undefined;
  const login = async (): Promise<RawClient> => {
    const options = user === 'any_app' ? { parameters: { options: `-c meridian.tenant=${tenant}` } } : {};
    return RawClient.login(router.port, keyspace.ca.bundle, { user, password, database }, options);
  };
  while (goOn()) {
    try {
      client ??= await login();
    } catch {
      // So many log in at once that some are turned away.
      await sleep(100 + random() * 400);
      continue;
    }
    const at = client;
    const stage: Stage = {
      witness,
      random,
      prepared,
      say: async (bytes, expected = [], status = 'ZI') => {
        if (bytes.length > 0) at.send(...bytes);
        const messages = await at.until('Z', patienceMs);
        witness.judge(messages);
        witness.judgeEnd(messages, expected, status);
        counts.responses += messages.length;
        return messages.every(({ type }) => type !== 'E');
      },
      hear: async (bytes, type) => {
        at.send(...bytes);
        if (type === 'never') {
          await sleep(random() * 5);
          return false;
        }
        const messages = await at.untilAny([type, 'Z'], patienceMs);
        witness.judge(messages);
        counts.responses += messages.length;
        return messages.at(-1)?.type === type;
      },
      cancel: async () => {
        const canceller = RawClient.plain(await RawClient.tcp(router.port));
        canceller.send(cancelRequest(at.processId, at.secret));
        // From then on it has either been aimed at this statement, or done nothing.
        await canceller.closed(patienceMs);
        counts.cancels += 1;
      },
      hangUp: () => {
        at.end();
        counts.hangUps += 1;
      },
    };
    witness.next();
    const choice = Math.floor(random() * actions.length);
    try {
      await (actions[choice] as (typeof actions)[number])(stage);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      if (!at.isClosed) throw new Error(`client ${index}, action ${choice} (seed ${seed})`, { cause: error });
      // What it heard before its end counts as well.
      witness.judge(at.messages);
      counts.ended += 1;
    }
    if (!at.isClosed && !at.socket.destroyed) continue;
    prepared.clear();
    client = undefined;
  }
  client?.end();
}

async function killNowAndThen(keyspace: RouterKeyspace, counts: TaintCounts, goOn: () => boolean): Promise<void> {
  while (goOn()) {
    await sleep(400);
    for (const member of ['one-eu-0', 'two-us-0'])
      await keyspace
        .asOperator(member, (operator) =>
          operator.query(
            `select pg_terminate_backend(pid) from pg_stat_activity where usename like '%\\_app' order by random() limit 1`,
          ),
        )
        .then(
          () => (counts.kills += 1),
          // Busy as the machine is, some can't be reached in time.
          () => undefined,
        );
  }
}
