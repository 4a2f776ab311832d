/**
 * Shows that the closed access file is in force: a connection over the network, as any client would make it, is refused
 * for want of an entry. The postmaster hands what it has loaded to every process that it forks from then on
 * (docs/design-traps.md, B11); the files on disk show nothing of that.
 */
import pg from 'pg';
import { operatorRole } from '#core/roles.ts';

const PROBE_TIMEOUT_MS = 2_000;

/** @throws when the probe was let in, refused for another reason, or not answered. */
export async function assertDoorIsClosed(port: number): Promise<void> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: operatorRole,
    database: 'postgres',
    // No certificate of ours: with the open file this role is refused, too, but for its missing certificate.
    ssl: { rejectUnauthorized: false },
    connectionTimeoutMillis: PROBE_TIMEOUT_MS,
  });
  client.on('error', () => {});
  try {
    await client.connect();
  } catch (error) {
    if (isRefusedByAccessFile(error)) return;
    throw new Error('the closed access file is not in force', { cause: error });
  } finally {
    await client.end().catch(() => undefined);
  }
  throw new Error('the closed access file is not in force: a probe was let in');
}

/** By SQLSTATE and text (lc_messages is fixed): a missing certificate has the same SQLSTATE. */
export const isRefusedByAccessFile = (error: unknown): boolean =>
  error instanceof pg.DatabaseError &&
  error.code === '28000' &&
  error.message.startsWith('pg_hba.conf rejects connection');
