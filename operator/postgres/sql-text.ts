/**
 * Names and texts inside SQL that takes no parameters (DDL), and transactions around a few statements.
 */
import { type ClientBase, escapeIdentifier, escapeLiteral } from 'pg';

export const identifier = (name: string): string => escapeIdentifier(name);
export const qualified = (schema: string, name: string): string => `${identifier(schema)}.${identifier(name)}`;
export const literal = (text: string): string => escapeLiteral(text);

/** READ COMMITTED whatever the session's default: what follows must see what others committed while it waited for a lock. */
export async function inTransaction<T>(client: ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query('begin isolation level read committed');
  try {
    const result = await work();
    await client.query('commit');
    return result;
  } catch (error) {
    // A connection that is gone has rolled back by itself; the first error is the one to report.
    await client.query('rollback').catch(() => {});
    throw error;
  }
}
