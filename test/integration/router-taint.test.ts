/**
 * No byte of one client at another's: many clients over few backends, each with a nonce that every row, notice and error it asks for
 * carries, while statements fail, are cancelled, are pipelined, backends are killed and clients hang up in the middle. The seed is
 * printed; ROUTER_TAINT_SEED and ROUTER_TAINT_SECONDS run it again, or for longer.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { readErrorFields, readTextRow } from '#router/wire/server-messages.ts';
import { cancelRequest } from '#router/wire/startup.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, type RawMessage, sqlstateOf, textsOf } from './router-raw-client.ts';

const seed = Number(process.env['ROUTER_TAINT_SEED'] ?? Date.now() % 1_000_000);
const seconds = Number(process.env['ROUTER_TAINT_SECONDS'] ?? 6);
const clientCount = 40;

/** SQLSTATEs that an action of `work` brings about itself, by its number. */
const expectedErrors: Readonly<Record<number, readonly string[]>> = {
  3: ['P0042'],
  4: ['P0042'],
  5: ['22012', '25P02'],
  // Its statement may not have been made when its backend was killed.
  8: ['26000'],
};

let keyspace: RouterKeyspace;
let router: TestRouter;
let answers = 0;
let hangUps = 0;
let cancels = 0;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await router.with('any_app', async (client) => {
    for (const tenant of ['acme', 'bolt', 'cord'])
      await client.query(`insert into accounts (tenant_id, id, owner) select $1, n, $1 from generate_series(1, 50) n`, [
        tenant,
      ]);
  });
});
after(() => keyspace?.stop());

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

/** What killing a backend, and waiting for one, may bring on anybody at any time. */
const mishaps = ['08006', '08007', '40001', '53300', '57P03'];

/** No error but those that its own action, or a mishap, explains; and no transaction left open that it didn't begin. */
function checkEnd(messages: readonly RawMessage[], expected: readonly string[], status: string): void {
  for (const one of messages)
    if (one.type === 'E')
      assert.ok(
        [...mishaps, ...expected].includes(sqlstateOf(one) ?? ''),
        `${sqlstateOf(one)} is nobody's (seed ${seed})`,
      );
  assert.ok(status.includes(textsOf(messages.slice(-1))), `${textsOf(messages.slice(-1))} (seed ${seed})`);
}

/** Every value of every row is `tenant:nonce`; every error that names a nonce names this one. */
function check(messages: readonly RawMessage[], tenant: string, nonce: string): void {
  for (const { type, frame } of messages) {
    answers += 1;
    if (type === 'D')
      assert.deepEqual([...new Set(readTextRow(frame, 0, frame.length))], [`${tenant}:${nonce}`], `seed ${seed}`);
    if (type === 'd') assert.equal(frame.toString('latin1', 5).trim(), `${tenant}:${nonce}`, `seed ${seed}`);
    if (type === 'E' || type === 'N') {
      const said = /nonce-\S+/.exec(readErrorFields(frame, 0, frame.length).get('M') ?? '')?.[0];
      if (said !== undefined) assert.equal(said, nonce, `seed ${seed}`);
    }
  }
}

async function work(index: number, isOver: () => boolean): Promise<void> {
  const random = randomOf(seed + index);
  const tenant = (['acme', 'bolt', 'cord'] as const)[index % 3] as string;
  const user = index % 4 === 0 && tenant !== 'cord' ? `${tenant}_app` : 'any_app';
  const login = async (): Promise<RawClient> => {
    const options = user === 'any_app' ? { parameters: { options: `-c meridian.tenant=${tenant}` } } : {};
    return RawClient.login(router.port, keyspace.ca.bundle, { user, password, database }, options);
  };
  let client = await login();
  let sequence = 0;
  const statements = new Set<string>();
  while (!isOver()) {
    const nonce = `nonce-${index}-${sequence++}`;
    const rows = `select tenant_id || ':${nonce}' from accounts where id <= ${1 + Math.floor(random() * 40)}`;
    const batch = (sql: string): Buffer[] => [
      message(0x50, '', sql, int16(0)),
      message(0x42, '', '', int16(0), int16(0), int16(0)),
      message(0x45, '', int32(0)),
    ];
    const choice = Math.floor(random() * 12);
    /** Whether it went well. */
    const say = async (...bytes: Buffer[]): Promise<boolean> => {
      client.send(...bytes);
      const messages = await client.until('Z');
      check(messages, tenant, nonce);
      checkEnd(messages, expectedErrors[choice] ?? [], choice === 5 ? 'ZI ZT ZE' : 'ZI');
      return messages.every(({ type }) => type !== 'E');
    };
    try {
      if (choice <= 2) await say(queryMessage(rows));
      else if (choice === 3) await say(queryMessage(`select fail('${nonce}')`));
      else if (choice === 4)
        await say(...batch(rows), ...batch(`select fail('${nonce}')`), ...batch(rows), syncMessage);
      else if (choice === 5) {
        await say(queryMessage('begin'));
        await say(queryMessage(rows));
        await say(queryMessage(random() < 0.5 ? `select 1 / 0 from accounts` : rows));
        await say(queryMessage(random() < 0.5 ? 'commit' : 'rollback'));
      } else if (choice === 6) await say(queryMessage(`copy (${rows}) to stdout`));
      else if (choice === 7) {
        const isKept = await say(queryMessage(`set app.nonce = '${nonce}'`));
        if (isKept)
          for (const _ of [1, 2]) await say(queryMessage(`select '${tenant}:' || current_setting('app.nonce')`));
      } else if (choice === 8) {
        const name = `p${Math.floor(random() * 5)}`;
        const made = statements.has(name)
          ? []
          : [message(0x50, name, "select tenant_id || ':' || $1 from accounts", int16(0))];
        statements.add(name);
        await say(
          ...made,
          message(0x42, '', name, int16(0), int16(1), int32(nonce.length), Buffer.from(nonce), int16(0)),
          message(0x45, '', int32(0)),
          syncMessage,
        );
      } else if (choice === 9) {
        client.send(queryMessage(`select tenant_id || ':${nonce}' from accounts, pg_sleep(0.4) where id = 1`));
        await sleep(random() * 30);
        const canceller = RawClient.plain(await RawClient.tcp(router.port));
        canceller.send(cancelRequest(client.processId, client.secret));
        // From then on it has either been aimed at this statement, or done nothing.
        await canceller.closed();
        cancels += 1;
        const messages = await client.until('Z');
        check(messages, tenant, nonce);
        checkEnd(messages, ['57014'], 'ZI');
      } else if (choice === 10) {
        client.send(random() < 0.5 ? queryMessage(rows) : Buffer.concat([...batch(rows)]));
        if (random() < 0.5) await sleep(random() * 5);
        client.end();
        hangUps += 1;
        statements.clear();
        client = await login();
      } else await say(queryMessage(`select pg_notify('c', '') /* ${nonce} */ where false`));
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assert.ok(client.isClosed, `${String(error)} (seed ${seed})`);
      statements.clear();
      client = await login();
    }
  }
  client.end();
}

async function killNowAndThen(isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    await sleep(400);
    await keyspace.asOperator('one-eu-0', (operator) =>
      operator.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where usename like '%\\_app' order by random() limit 1`,
      ),
    );
  }
}

test('every answer is the asking client’s own', async (context) => {
  const isEnough = (): boolean => answers > 1_000 && cancels > 5 && hangUps > 5;
  const startedAt = performance.now();
  // Longer on a machine that is slow to bring enough of it about.
  const isOver = (): boolean => {
    const spentMs = performance.now() - startedAt;
    return spentMs > seconds * 1_000 && (isEnough() || spentMs > 120_000);
  };
  await Promise.all([
    ...Array.from({ length: clientCount }, (_one, index) => work(index, isOver)),
    killNowAndThen(isOver),
  ]);
  context.diagnostic(`seed ${seed}: ${answers} answers, ${cancels} cancels, ${hangUps} hang-ups`);
  assert.ok(isEnough(), `${answers} answers, ${cancels} cancels, ${hangUps} hang-ups`);
  await waitFor(async () => router.worker.metrics.get('clients') === 0 && router.worker.gauges['backends_busy'] === 0);
});
