/**
 * The same statement through a router in front of two shards, and on a plain Postgres: what both say, compared. The plain one has all
 * rows, and once more only each tenant's: a session of one tenant should see the world as if there were no other; one that is open
 * should see what its text says of all rows, or be refused.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { createPlanner, type Planner, type TenantSource } from '#router/plan/index.ts';
import { firstMigration, RouterKeyspace, roles, type TestRouter } from '#test/integration/router-keyspace.ts';
import { functionsWith } from '#test/unit/router/plan/golden/functions.ts';
import { everything, fillOf, migration, only, plain, type Tenant, tables, tenants, unknownTable } from './schema.ts';
import type { FuzzStatement } from './statements.ts';

const columns = 'tenant_id, sku, n';

export type Rows = readonly unknown[][];

/** What a statement gave and left behind, or the SQLSTATE and message that it ended with. */
export type Outcome =
  | { readonly kind: 'rows'; readonly results: readonly Rows[]; readonly left: readonly Rows[] }
  | { readonly kind: 'error'; readonly code: string; readonly message: string };

export type Verdict =
  | { readonly kind: 'same' | 'neither runs it' | 'undecided' }
  | { readonly kind: 'refused'; readonly code: string; readonly message: string }
  | { readonly kind: 'wrong'; readonly what: string; readonly router: Outcome; readonly expected: Outcome };

/** What the router, or a shard's own check behind it, refuses rather than answer wrongly. */
export const refusals: ReadonlySet<string> = new Set(['MD002', 'MD003', 'MD004', '0A000', '42501']);

/** A primary that is away for a moment, on a machine that stood still: nothing was answered. */
export const passing: ReadonlySet<string> = new Set(['57P03', '08006', '08007', '40001', '53300']);
const maxTries = 10;

/** Took longer than a statement may, here or there: the same joins over a few rows may have a hundred million. */
export const tooLong = (outcome: Outcome): boolean => outcome.kind === 'error' && outcome.code === '57014';
const limitMs = 5_000;

export class Laboratory {
  readonly #keyspace: RouterKeyspace;
  readonly #router: TestRouter;
  readonly #planner: Planner;
  readonly #others: Laboratory[] = [];
  readonly #clients = new Map<string, Promise<pg.Client>>();
  #sequence = 0;

  /** Whether the session's tenant is for the text to say. */
  static isOpen({ session }: FuzzStatement): boolean {
    return session === 'open' || session === 'pair';
  }

  private constructor(keyspace: RouterKeyspace, router: TestRouter, planner: Planner) {
    this.#keyspace = keyspace;
    this.#router = router;
    this.#planner = planner;
  }

  static async start(): Promise<Laboratory> {
    const keyspace = await RouterKeyspace.start();
    try {
      const primaries = { one: 'one-eu-0', two: 'two-us-0' } as const;
      for (const member of Object.values(primaries))
        await keyspace.asOperator(member, async (client) => {
          await migrate(client);
          await client.query(unknownTable);
          for (const role of Object.keys(roles))
            await client.query(`alter role ${role} set statement_timeout = ${limitMs}`);
        });
      await keyspace.asOperator(primaries.one, (client) => client.query('create database plain'), 'postgres');
      await keyspace.asOperator(primaries.one, (client) => client.query(plain), 'plain');
      const router = await keyspace.router();
      const laboratory = new Laboratory(keyspace, router, await createPlanner());
      for (const tenant of tenants)
        await router.with('any_app', async (client) => {
          await client.query(`set meridian.tenant = '${tenant}'`);
          for (const statement of fillOf(tenant).split(';')) if (statement.trim() !== '') await client.query(statement);
        });
      return laboratory;
    } catch (error) {
      await keyspace.stop();
      throw error;
    }
  }

  /** The same with another planner in the router: one that is wrong has to be found. Stopped with this one. */
  async withPlanner(planner: Planner): Promise<Laboratory> {
    const other = new Laboratory(this.#keyspace, await this.#keyspace.router('eu', {}, planner), this.#planner);
    this.#others.push(other);
    return other;
  }

  async stop(): Promise<void> {
    await Promise.all([this, ...this.#others].map((one) => one.#endClients()));
    await this.#keyspace.stop();
  }

  async #endClients(): Promise<void> {
    for (const client of this.#clients.values()) await client.then((one) => one.end()).catch(() => undefined);
  }

  /** @param lane statements of one lane follow each other, those of others run beside them. */
  async check(statement: FuzzStatement, lane: number): Promise<Verdict> {
    let router = await this.#throughRouter(statement, lane);
    for (let tries = 1; router.kind === 'error' && passing.has(router.code) && tries < maxTries; tries++) {
      await sleep(500);
      router = await this.#throughRouter(statement, lane);
    }
    if (router.kind === 'error' && refusals.has(router.code))
      return { kind: 'refused', code: router.code, message: router.message };
    if (tooLong(router)) return { kind: 'undecided' };
    const schema = Laboratory.isOpen(statement) ? everything : only(statement.tenant);
    const tenant = this.tenantOf(statement);
    const expected = await this.#onPlain(statement, schema, tenant, lane, '');
    if (expected.kind === 'error' && router.kind === 'error') return { kind: 'neither runs it' };
    // Rows of others may be what the plain one stumbles over.
    const alone =
      expected.kind === 'error' && tenant !== undefined && schema === everything
        ? await this.#onPlain(statement, only(tenant), tenant, lane, '')
        : expected;
    if (tooLong(expected) || tooLong(alone)) return { kind: 'undecided' };
    const what = difference(router, alone);
    if (what === undefined) return { kind: 'same' };
    for (const plan of ['hashjoin', 'nestloop', 'mergejoin', 'hashagg', 'sort', 'seqscan']) {
      const again = await this.#onPlain(statement, schema, tenant, lane, `set local enable_${plan} = off`);
      if (difference(again, expected) !== undefined) return { kind: 'undecided' };
    }
    return { kind: 'wrong', what, router, expected: alone };
  }

  /** A connection to the router that such statements are said by. */
  clientOf({ session, tenant, isPreparedInSql }: FuzzStatement, lane: number): Promise<pg.Client> {
    const names = { fixed: `${tenant}_app`, pair: 'pair_app', open: 'any_app', set: 'any_app', hinted: 'any_app' };
    const role = names[session];
    return this.#client(`${role} ${lane}${isPreparedInSql === true ? ' in SQL' : ''}`, () =>
      this.#router.connect(role),
    );
  }

  plainClient(lane: number): Promise<pg.Client> {
    return this.#client(`plain ${lane}`, () => this.#connectPlain());
  }

  /** As the operator, at the primary of a tenant's shard: whose rows there are is nobody's secret there. */
  atHome<T>(tenant: Tenant, use: (client: pg.Client) => Promise<T>): Promise<T> {
    return this.#keyspace.asOperator(tenant === 'bolt' ? 'two-us-0' : 'one-eu-0', use);
  }

  async #throughRouter(statement: FuzzStatement, lane: number): Promise<Outcome> {
    const { session, tenant, text, values, isWrite, before } = statement;
    const client = await this.clientOf(statement, lane);
    this.#sequence += 1;
    const name = before === undefined ? {} : { name: `fuzz${this.#sequence}` };
    try {
      if (session === 'set') await client.query(`set meridian.tenant = '${tenant}'`);
      if (statement.isPreparedInSql === true) return await preparedInSql(client, text, values);
      if (before !== undefined) await client.query({ ...name, text, values: [...before] }).catch(() => undefined);
      if (!isWrite) return { kind: 'rows', results: await rowsOf(client, text, values, name), left: [] };
      await client.query('begin');
      const results = await rowsOf(client, text, values, name);
      const mine = this.tenantOf(statement);
      return { kind: 'rows', results, left: mine === undefined ? [] : await this.#left(client, mine) };
    } catch (error) {
      return failure(error);
    } finally {
      if (isWrite) await client.query('rollback');
      if (session === 'set') await client.query('reset meridian.tenant');
    }
  }

  async #onPlain(
    { text, values, isWrite, isPreparedInSql }: FuzzStatement,
    schema: string,
    tenant: Tenant | undefined,
    lane: number,
    setting: string,
  ): Promise<Outcome> {
    const client = await this.plainClient(lane);
    await client.query(
      `begin; set local search_path = ${schema}; set local statement_timeout = ${limitMs}; ${setting}`,
    );
    try {
      if (isPreparedInSql === true) return await preparedInSql(client, text, values);
      const results = await rowsOf(client, text, values);
      if (!isWrite) return { kind: 'rows', results, left: [] };
      const left = tenant === undefined ? [] : await this.#left(client, tenant);
      return { kind: 'rows', results, left };
    } catch (error) {
      return failure(error);
    } finally {
      await client.query('rollback');
    }
  }

  async #left(client: pg.Client, tenant: Tenant): Promise<readonly Rows[]> {
    const left: Rows[] = [];
    for (const table of tables)
      left.push(...(await rowsOf(client, `select ${columns} from ${table} where tenant_id = '${tenant}'`, [])));
    return left;
  }

  /** The one tenant that an open statement is about, as its text and parameters say; undefined where that isn't one. */
  tenantOf(statement: FuzzStatement): Tenant | undefined {
    const { tenant, text, values } = statement;
    if (!Laboratory.isOpen(statement)) return tenant;
    const found = new Set<string>();
    try {
      for (const plan of this.#planner.plan(text, catalogue))
        for (const key of keysOf(plan.tenant, values)) found.add(key);
    } catch {
      return undefined;
    }
    const [first, ...others] = found;
    return others.length === 0 ? tenants.find((one) => one === first) : undefined;
  }

  #client(name: string, make: () => Promise<pg.Client>): Promise<pg.Client> {
    let client = this.#clients.get(name);
    if (client === undefined) this.#clients.set(name, (client = make()));
    return client;
  }

  #connectPlain(): Promise<pg.Client> {
    return new Promise((resolve, reject) => {
      void this.#keyspace
        .asOperator(
          'one-eu-0',
          async (client) => {
            resolve(client);
            await new Promise((ended) => client.once('end', ended));
          },
          'plain',
        )
        .catch(reject);
    });
  }
}

const catalogue = {
  version: 1,
  tenantColumn: 'tenant_id',
  searchPath: ['public'],
  tables: new Map([
    ...tables.map((table) => [`public.${table}`, 'tenant'] as const),
    ['public.rates', 'reference'] as const,
  ]),
  views: new Map<string, string>(),
  functions: functionsWith(),
  volatileFunctions: new Set<string>(),
};

const keysOf = (source: TenantSource, values: readonly unknown[]): readonly string[] => {
  if (source.from === 'constant') return source.values;
  if (source.from !== 'parameters') return [];
  return [...source.values, ...source.indexes.map((index) => String(values[index - 1]))];
};

/** As the operator does it, so that tables and rows are protected. */
async function migrate(client: pg.Client): Promise<void> {
  const run = await runMigrations(client, [firstMigration, { name: '0002-fuzz', sql: migration }], {
    referenceTables: ['currencies', 'rates'],
  });
  if (run.failure !== undefined) throw new Error(JSON.stringify(run.failure));
}

const literalOf = (value: unknown): string => {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return `array[${value.map(literalOf).join(', ')}]`;
  return typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : JSON.stringify(value);
};

let preparedCount = 0;

/** PREPARE, EXECUTE and DEALLOCATE, with the comment ahead of each that may say the tenant. */
async function preparedInSql(client: pg.Client, text: string, values: readonly unknown[]): Promise<Outcome> {
  const [hint = ''] = /^\/\*.*?\*\/ /.exec(text) ?? [];
  preparedCount += 1;
  const name = `prepared_${preparedCount}`;
  await client.query(`${hint}prepare ${name} as ${text.slice(hint.length)}`);
  try {
    const results = await rowsOf(client, `${hint}execute ${name} (${values.map(literalOf).join(', ')})`, []);
    await client.query(`deallocate ${name}`);
    return { kind: 'rows', results, left: [] };
  } catch (error) {
    // It outlives its transaction, and keeps the session where it is.
    await client.query('rollback');
    await client.query(`deallocate ${name}`);
    throw error;
  }
}

/** What it was planned as is each database's own business. */
const isExplained = (text: string): boolean => /^(?:\/\*.*?\*\/ )?explain\b/.test(text);

export async function rowsOf(
  client: pg.Client,
  text: string,
  values: readonly unknown[],
  name: { name?: string } = {},
): Promise<readonly Rows[]> {
  const answer: unknown = await client.query({
    text,
    ...name,
    rowMode: 'array',
    ...(values.length > 0 && { values: [...values] }),
  });
  const results = (Array.isArray(answer) ? answer : [answer]) as { rows: unknown[][] }[];
  return isExplained(text) ? [] : results.map(({ rows }) => rows);
}

export function failure(error: unknown): Outcome {
  const { code, message } = error as { code?: string; message?: string };
  return { kind: 'error', code: code ?? 'none', message: message ?? String(error) };
}

/** Rows in any order, each as often as it is there. */
const canonical = (results: readonly Rows[]): string =>
  JSON.stringify(results.map((rows) => rows.map((row) => JSON.stringify(row)).toSorted()));

export function difference(one: Outcome, other: Outcome): string | undefined {
  if (one.kind === 'error' || other.kind === 'error')
    return one.kind === other.kind ? undefined : 'one of them runs it, the other does not';
  if (canonical(one.results) !== canonical(other.results)) return 'other rows';
  return canonical(one.left) === canonical(other.left) ? undefined : 'other rows left behind';
}
