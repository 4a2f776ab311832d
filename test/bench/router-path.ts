/**
 * `npm run bench:router-path`: what the router's own code takes for a statement, without sockets, Postgres or pgbench: sessions and backends
 * of the real thing over sockets that are function calls. Of many short batches the quickest counts, so that a busy machine hardly
 * shows. Prints microseconds a statement.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { pino } from 'pino';
import type { RouterContext } from '#router/context.ts';
import { Parameterised } from '#router/exec/parameterised.ts';
import { PlanCache } from '#router/exec/plan-cache.ts';
import { Limits } from '#router/limits/limits.ts';
import { SessionLimits } from '#router/limits/session-limits.ts';
import { loginOfRow } from '#router/map/logins.ts';
import type { ClusterMap } from '#router/map/map.ts';
import { Metrics } from '#router/metrics.ts';
import { createPlanner } from '#router/plan/planner.ts';
import { ShapeScanner } from '#router/plan/shape.ts';
import { Lanes } from '#router/pool/lane.ts';
import { PlanCosts } from '#router/pool/plan-cost.ts';
import { Pool } from '#router/pool/pool.ts';
import { Tally } from '#router/pool/tally.ts';
import { Session } from '#router/session/session.ts';
import { SessionSettings } from '#router/session/settings.ts';
import { SharedStatements } from '#router/session/statements.ts';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { backend as code, describeTarget, frontend, headerBytes } from '#router/wire/codes.ts';
import { MessageBudget } from '#router/wire/message-budget.ts';
import {
  bindComplete,
  commandComplete,
  parseComplete,
  readyForQuery,
  textDataRow,
  textRowDescription,
} from '#router/wire/server-messages.ts';
import { int16, message } from '#router/wire/writer.ts';
import { catalogue as shopCatalogue } from '#test/unit/router/plan/fixture.ts';

/** As much of a socket as sessions and backends use. */
class Pretended extends EventEmitter {
  readonly writable = true;
  readonly writableNeedDrain = false;
  writableLength = 0;
  constructor(onWrite: (bytes: Buffer) => void) {
    super();
    this.write = (bytes: Buffer) => {
      onWrite(bytes);
      return true;
    };
  }
  write: (bytes: Buffer) => boolean;
  pause(): void {}
  resume(): void {}
  isPaused(): boolean {
    return false;
  }
  cork(): void {}
  uncork(): void {}
  end(): void {}
  destroy(): void {}
  destroySoon(): void {}
}

const row = Buffer.concat([textDataRow(['-4711']), commandComplete('SELECT 1')]);
const description = textRowDescription(['balance']);
const simpleAnswer = Buffer.concat([description, row, readyForQuery(73)]);
const parameters = message(code.parameterDescription, int16(1), 20);

/** Answers each query or batch as Postgres would, in one piece, when the write has returned. */
function pretendedServer(): Pretended {
  const socket: Pretended = new Pretended((bytes) => {
    const answers: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) {
      switch (bytes[at]) {
        case frontend.query:
          answers.push(simpleAnswer);
          break;
        case frontend.parse:
          answers.push(parseComplete);
          break;
        case frontend.bind:
          answers.push(bindComplete);
          break;
        case frontend.describe:
          if (bytes[at + headerBytes] === describeTarget.statement) answers.push(parameters);
          answers.push(description);
          break;
        case frontend.execute:
          answers.push(row);
          break;
        case frontend.sync:
          answers.push(readyForQuery(73));
          break;
        default:
      }
    }
    pending.push(() => socket.emit('data', Buffer.concat(answers)));
  });
  return socket;
}

const pending: (() => void)[] = [];
function runPending(): void {
  for (let work = pending.shift(); work !== undefined; work = pending.shift()) work();
}

const login = loginOfRow({ role: 'fixed_app', verifiers: [], anyTenant: false, tenants: ['1'], formerUntil: null });
const catalogue = { ...shopCatalogue, tables: new Map([['public.accounts', 'tenant' as const]]) };
const map: ClusterMap = {
  keyspace: {
    name: 'bench',
    database: 'bench',
    tenantColumn: 'tenant_id',
    tenantType: 'bigint',
    consistency: { default: 'strong', rules: [] },
    poolSize: 20,
    maxClients: 1_000,
    roles: [],
  },
  shards: new Map([['one', { name: 'one', epoch: 1, primary: 'm' }]]),
  members: new Map([
    ['m', { name: 'm', shard: 'one', region: 'eu', address: '127.0.0.1', port: 1, agentPort: 1, ready: true }],
  ]),
  tenants: new Map([['1', { key: '1', shard: 'one', epoch: 1, state: 'active' }]]),
  proximity: new Map(),
};
const lease = { isHeld: true, prove: () => undefined, identity: { member: 'm', epoch: 1, number: 1 } };
const pool = new Pool({
  member: 'm',
  role: 'fixed_app',
  isPaused: false,
  tally: new Tally(),
  generation: () => 'g',
  primaryEpoch: () => 1,
  reached: () => undefined,
  limits: () => ({ size: 20, waitMs: 10_000, idleMs: 1e9, lifetimeMs: 1e9 }),
  now: () => performance.now(),
  connect: async () => ({
    socket: pretendedServer() as unknown as Socket,
    processId: 1,
    secret: 1,
    parameters: new Map(),
    postmaster: '',
  }),
});
const shared = new SharedStatements();
const context = {
  region: 'eu',
  allowPlaintext: true,
  map: () => map,
  directory: { current: () => login, catalogue: () => catalogue },
  plans: new PlanCache(await createPlanner()),
  pools: { of: () => pool, isReachable: () => true },
  lanes: new Lanes(() => lease),
  costs: new PlanCosts(),
  authority: { leaseOf: () => lease, isClosed: () => false, positions: { of: () => ({ where: () => undefined }) } },
  hold: { isHolding: () => false, calm: () => undefined },
  limits: new Limits({
    map: () => map,
    waitMs: 10_000,
    now: () => performance.now(),
    onRefused: () => undefined,
  }),
  shared,
  parameterised: new Parameterised(new ShapeScanner(), shared),
  messages: new MessageBudget(1024 * 1024 * 1024),
  metrics: new Metrics(),
  log: pino({ level: 'silent' }),
} as unknown as RouterContext;

function client(): { readonly socket: Pretended; answered: number } {
  const one = {
    answered: 0,
    socket: new Pretended((bytes) => {
      if (bytes[bytes.length - 6] === code.readyForQuery) one.answered += 1;
    }),
  };
  const settings = new SessionSettings(new Map(), {});
  const limits = new SessionLimits(context.limits, settings, login);
  const start = { login, settings, limits, applicationName: '' };
  void new Session(context, one.socket as unknown as Socket, start, () => undefined);
  return one;
}

const bind = (statement: string, value: string): Buffer =>
  message(frontend.bind, '', statement, int16(0), int16(1), value.length, Buffer.from(value), int16(0));
const execute = message(frontend.execute, '', 0);

const kinds: Readonly<Record<string, (n: number) => Buffer>> = {
  'simple, same text': () => queryMessage('select balance from accounts where tenant_id = 1 and aid = 4711;'),
  'simple, other literals': (n) => queryMessage(`select balance from accounts where tenant_id = 1 and aid = ${n};`),
  extended: (n) =>
    Buffer.concat([
      message(frontend.parse, '', 'select balance from accounts where tenant_id = $1 and aid = $2', int16(0)),
      message(
        frontend.bind,
        '',
        '',
        int16(0),
        int16(2),
        1,
        Buffer.from('1'),
        String(n).length,
        Buffer.from(String(n)),
        int16(0),
      ),
      execute,
      syncMessage,
    ]),
  prepared: (n) => Buffer.concat([bind('p', String(n)), execute, syncMessage]),
};

const perBatch = 2_000;
const batches = 150;
for (const [name, make] of Object.entries(kinds)) {
  const clients = Array.from({ length: 16 }, client);
  for (const one of clients)
    if (name === 'prepared') {
      one.socket.emit(
        'data',
        Buffer.concat([
          message(frontend.parse, 'p', 'select balance from accounts where tenant_id = 1 and aid = $1', int16(0)),
          syncMessage,
        ]),
      );
    }
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn++) {
      runPending();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await settle();
  let best = Number.POSITIVE_INFINITY;
  let n = 0;
  for (let batch = 0; batch < batches; batch++) {
    const frames = Array.from({ length: perBatch }, () => make((n += 1)));
    let micros = 0;
    for (let at = 0; at < perBatch; at += 16) {
      const before = clients.reduce((sum, one) => sum + one.answered, 0);
      const started = performance.now();
      for (let index = 0; index < 16; index++) clients[index]?.socket.emit('data', frames[at + index]);
      runPending();
      await new Promise((resolve) => setImmediate(resolve));
      runPending();
      micros += (performance.now() - started) * 1_000;
      const after = clients.reduce((sum, one) => sum + one.answered, 0);
      if (after - before !== 16) {
        if (batch > 0) throw new Error(`${after - before} answers of 16: ${name}`);
        await settle();
      }
    }
    best = Math.min(best, micros / perBatch);
  }
  console.log(`${name.padEnd(24)} ${best.toFixed(2)} µs a statement; shared ${context.metrics.get('shared_total')}`);
}
process.exit(0);
