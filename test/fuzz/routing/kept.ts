/**
 * Writes that are kept on both sides, one after the other, by themselves or in a transaction; and then everything that there is on any
 * shard, compared with everything on the plain one: what a write did beyond what its own session sees shows there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import {
  difference,
  failure,
  Laboratory,
  type Outcome,
  passing,
  refusals,
  rowsOf,
  tooLong,
  type Verdict,
} from './laboratory.ts';
import { everything, fillOf, only, type Tenant, tables, tenants } from './schema.ts';
import type { FuzzStatement } from './statements.ts';

const home: Readonly<Record<Tenant, string>> = { acme: 'one', bolt: 'two', cord: 'one' };
/** Which rows a statement that may take any of several takes is the plan's choice: tried with each of these left out. */
const plans = ['hashjoin', 'nestloop', 'mergejoin', 'hashagg', 'sort', 'seqscan'];
/** None of another run's: lanes of the laboratory have numbers of their own. */
const lane = -1;

export class KeptWrites {
  readonly #laboratory: Laboratory;

  constructor(laboratory: Laboratory) {
    this.#laboratory = laboratory;
  }

  /** @param byItself without BEGIN and COMMIT, as most writes come. */
  async check(statement: FuzzStatement, byItself: boolean): Promise<Verdict> {
    const plain = await this.#laboratory.plainClient(lane);
    const isOpen = Laboratory.isOpen(statement);
    const tenant = this.#laboratory.tenantOf(statement);
    let schema = isOpen ? everything : only(statement.tenant);
    let expected = await this.#begin(plain, schema, statement, '');
    const router = await this.#throughRouter(statement, byItself);
    if (router.kind === 'error') {
      await plain.query('rollback');
      if (passing.has(router.code) || tooLong(router)) return this.#startAgain();
      if (refusals.has(router.code)) return { kind: 'refused', code: router.code, message: router.message };
    }
    if (expected.kind === 'error' && router.kind === 'error') return { kind: 'neither runs it' };
    // Rows of others may be what the plain one stumbles over.
    if (expected.kind === 'error' && isOpen && tenant !== undefined) {
      await plain.query('rollback');
      schema = only(tenant);
      expected = await this.#begin(plain, schema, statement, '');
    }
    if (tooLong(expected)) return this.#startAgain();
    const what = difference(router, expected);
    if (what === undefined) {
      await plain.query('commit');
      await this.#follow(plain, schema);
      return { kind: 'same' };
    }
    for (const plan of plans) {
      await plain.query('rollback');
      const again = await this.#begin(plain, schema, statement, `set local enable_${plan} = off`);
      if (difference(again, expected) !== undefined) return this.#startAgain();
    }
    await plain.query('rollback');
    await this.reset();
    return { kind: 'wrong', what: `${what}, by a write that was kept`, router, expected };
  }

  /** Leaves its transaction open. */
  async #begin(plain: pg.Client, schema: string, { text, values }: FuzzStatement, setting: string): Promise<Outcome> {
    await plain.query(`begin; set local search_path = ${schema}; set local statement_timeout = 5000; ${setting}`);
    try {
      return { kind: 'rows', results: await rowsOf(plain, text, values), left: [] };
    } catch (error) {
      return failure(error);
    }
  }

  async #throughRouter(statement: FuzzStatement, byItself: boolean): Promise<Outcome> {
    const { session, tenant, text, values } = statement;
    const client = await this.#laboratory.clientOf(statement, lane);
    try {
      if (session === 'set') await client.query(`set meridian.tenant = '${tenant}'`);
      if (!byItself) await client.query('begin');
      const results = await rowsOf(client, text, values);
      if (!byItself) await client.query('commit');
      return { kind: 'rows', results, left: [] };
    } catch (error) {
      if (!byItself) await client.query('rollback');
      return failure(error);
    } finally {
      if (session === 'set') await client.query('reset meridian.tenant');
    }
  }

  /** What isn't the same on the plain one each time, or may have been lost on the way, may have been done in either way. */
  async #startAgain(): Promise<Verdict> {
    const plain = await this.#laboratory.plainClient(lane);
    await plain.query('rollback');
    await this.reset();
    return { kind: 'undecided' };
  }

  /** The world of each tenant alone, and that of all, have the same rows. */
  async #follow(plain: pg.Client, from: string): Promise<void> {
    for (const tenant of tenants) {
      if (from !== everything && from !== only(tenant)) continue;
      const to = from === everything ? only(tenant) : everything;
      for (const table of tables)
        await plain.query(
          `delete from ${to}.${table} where tenant_id = '${tenant}'; insert into ${to}.${table} select * from ${from}.${table} where tenant_id = '${tenant}'`,
        );
    }
  }

  /** All rows of all tenants, and what nobody may have touched. Undefined where they are the same. */
  async compare(): Promise<string | undefined> {
    const plain = await this.#laboratory.plainClient(lane);
    for (const tenant of tenants) {
      const found = await this.#laboratory.atHome(tenant, (client) => contents(client, '', tenant));
      const expected = await contents(plain, `${everything}.`, tenant);
      if (found !== expected) return `rows of ${tenant}: ${found}\n  expected: ${expected}`;
      const other = tenants.find((one) => home[one] !== home[tenant]) as Tenant;
      const astray = await this.#laboratory.atHome(other, (client) => contents(client, '', tenant));
      if (astray !== nothing) return `rows of ${tenant} at the other shard: ${astray}`;
      const rates = await this.#laboratory.atHome(tenant, untouched);
      if (rates !== (await untouched(plain, `${everything}.`))) return `rows of nobody: ${rates}`;
    }
    return undefined;
  }

  /** Numbers that each side drew for itself are the shards' from now on: a later statement may show them. */
  async adopt(): Promise<void> {
    const plain = await this.#laboratory.plainClient(lane);
    for (const tenant of tenants) {
      for (const table of tables) {
        const found = await this.#laboratory.atHome(tenant, async (client) => {
          const { rows } = await client.query<{ all: string }>(
            `select coalesce(json_agg(t), '[]')::text as all from ${table} t where tenant_id = '${tenant}'`,
          );
          return rows[0]?.all ?? '[]';
        });
        const own = `${only(tenant)}.${table}`;
        await plain.query(`delete from ${own}`);
        await plain.query(`insert into ${own} select * from json_populate_recordset(null::${own}, $1::json)`, [found]);
      }
      await this.#follow(plain, only(tenant));
    }
  }

  /** Everything as it was in the beginning. */
  async reset(): Promise<void> {
    const plain = await this.#laboratory.plainClient(lane);
    for (const tenant of tenants) {
      await this.#refill(tenant);
      const emptied = tables.map((table) => `delete from ${only(tenant)}.${table}`).join('; ');
      await plain.query(`${emptied}; ${fillOf(tenant, `${only(tenant)}.`)}`);
      await this.#follow(plain, only(tenant));
    }
  }

  /** Through the router, as an application would; tried again while a member is away for a moment. */
  async #refill(tenant: Tenant): Promise<void> {
    const statement = { session: 'set', tenant, text: '', values: [], isWrite: true } as const;
    const client = await this.#laboratory.clientOf(statement, lane);
    const statements = [...tables.map((table) => `delete from ${table}`), ...fillOf(tenant).split(';')];
    for (let tries = 1; ; tries++)
      try {
        await client.query(`set meridian.tenant = '${tenant}'`);
        await client.query('begin');
        for (const one of statements) if (one.trim() !== '') await client.query(one);
        await client.query('commit');
        await client.query('reset meridian.tenant');
        return;
      } catch (error) {
        await client.query('rollback').catch(() => undefined);
        if (tries === 10 || !passing.has((error as { code?: string }).code ?? '')) throw error;
        await sleep(500);
      }
  }
}

const canonical = (rows: readonly unknown[]): string =>
  JSON.stringify(rows.map((row) => JSON.stringify(row)).toSorted());

async function contents(client: pg.Client, schema: string, tenant: Tenant): Promise<string> {
  const found: string[] = [];
  for (const table of tables) {
    const id = table === 'stock' ? '' : 'id, ';
    const { rows } = await client.query(`select ${id}sku, n from ${schema}${table} where tenant_id = '${tenant}'`);
    found.push(canonical(rows));
  }
  return found.join(' ');
}

const nothing = tables.map(() => '[]').join(' ');

async function untouched(client: pg.Client, schema = ''): Promise<string> {
  const rates = await client.query(`select * from ${schema}rates`);
  const journal = await client.query(`select * from ${schema}journal`);
  return `${canonical(rates.rows)} ${canonical(journal.rows)}`;
}
