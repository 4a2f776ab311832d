/** What several of the router's tests look at. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';

/** The value of the only column of the only row. */
export async function one(client: pg.Client, sql: string, values: unknown[] = []): Promise<unknown> {
  const { rows } = await client.query({ text: sql, values, rowMode: 'array' });
  return (rows[0] as unknown[] | undefined)?.[0];
}

/** SQLSTATE of an error, or what it says. */
export const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);

/** For `assert.rejects`: the error has that SQLSTATE. */
export const refused = (sqlstate: string) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, sqlstate, String(error));
  return true;
};

/** It becomes that, sooner or later; else it is said how it differs. */
export async function eventually<T>(look: () => Promise<T>, expected: T, timeoutMs = 60_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let seen = await look();
  while (!isDeepStrictEqual(seen, expected) && performance.now() < deadline) {
    await sleep(50);
    seen = await look();
  }
  assert.deepEqual(seen, expected);
}

/** Patient: the machine may have much else to do. What must come within a certain time is measured by its test itself. */
export async function waitFor(condition: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not so within ${timeoutMs} ms: ${condition.toString()}`);
    await sleep(50);
  }
}
