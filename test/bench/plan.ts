/**
 * `npm run bench:plan`: what finding a statement's plan takes, in microseconds and in bytes of garbage: a hit by shape from the bytes of a
 * message, with other constants each time, beside parsing. Nothing else is measured; no network, no Postgres.
 */
import { PlanCache } from '#router/exec/plan-cache.ts';
import { FunctionCatalogue } from '#router/plan/functions.ts';
import { type Catalogue, createPlanner } from '#router/plan/index.ts';

const catalogue: Catalogue = {
  version: 1,
  tenantColumn: 'tenant_id',
  searchPath: ['public'],
  tables: new Map([
    ['public.pgbench_accounts', 'tenant'],
    ['public.orders', 'tenant'],
    ['public.order_lines', 'tenant'],
  ]),
  views: new Map(),
  functions: new FunctionCatalogue([]),
  volatileFunctions: new Set(),
};

/** `#` stands for a number that is another each time. */
const statements: Readonly<Record<string, string>> = {
  'pgbench select, tenant fixed by role': 'SELECT abalance FROM pgbench_accounts WHERE aid = #;',
  'pgbench select, tenant in the text': "SELECT abalance FROM pgbench_accounts WHERE tenant_id = 't#' AND aid = #;",
  'the same with a parameter': 'SELECT abalance FROM pgbench_accounts WHERE tenant_id = $1 AND aid = $2',
  'pgbench update': 'UPDATE pgbench_accounts SET abalance = abalance + -# WHERE aid = #;',
  'a hint that differs each time': "/* traceparent='00-#-01' */ SELECT abalance FROM pgbench_accounts WHERE aid = #",
  BEGIN: 'BEGIN',
  'a join of 330 bytes': `SELECT o.id, o.status, o.total, l.sku, l.quantity, l.price FROM orders o JOIN order_lines l ON l.tenant_id = o.tenant_id
    AND l.order_id = o.id WHERE o.tenant_id = 't#' AND o.created_at >= '2026-01-01' AND o.status IN ('paid', 'sent')
    AND (l.quantity > # OR l.price BETWEEN 10.5 AND 99.95) ORDER BY o.created_at DESC, o.id LIMIT 50 OFFSET #`,
};

const texts = 512;
const rounds = 9;
const perRound = 50_000;

const planner = await createPlanner();

interface Measured {
  readonly microseconds: number;
  readonly bytes: number;
}

/** CPU time, so that others on the machine don't count. */
function measure(run: (index: number) => void): Measured {
  const times = Array.from({ length: rounds }, () => {
    const before = process.cpuUsage();
    for (let index = 0; index < perRound; index++) run(index % texts);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / perRound;
  });
  // Few at a time, so that most times nothing is collected in between, which would hide what was made.
  const grown = Array.from({ length: 101 }, () => {
    const heap = process.memoryUsage().heapUsed;
    for (let index = 0; index < texts; index++) run(index);
    return (process.memoryUsage().heapUsed - heap) / texts;
  });
  return { microseconds: medianOf(times), bytes: medianOf(grown) };
}

const medianOf = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

console.log(`${'statement'.padEnd(40)} ${'hit, µs'.padStart(8)} ${'bytes'.padStart(6)} ${'parse, µs'.padStart(10)}`);
for (const [name, pattern] of Object.entries(statements)) {
  const cache = new PlanCache(planner);
  let number = 100;
  const frames = Array.from({ length: texts }, () =>
    Buffer.from(pattern.replaceAll('#', () => String((number = (number * 48_271) % 999_983)))),
  );
  const hit = measure((index) => {
    const frame = frames[index] as Buffer;
    cache.planBytes(frame, 0, frame.length, catalogue);
  });
  const before = process.cpuUsage();
  for (const frame of frames) planner.plan(frame.toString(), catalogue);
  const parse = process.cpuUsage(before).user / texts;
  console.log(
    `${name.padEnd(40)} ${hit.microseconds.toFixed(2).padStart(8)} ${hit.bytes.toFixed(0).padStart(6)} ${parse.toFixed(1).padStart(10)}`,
  );
}
