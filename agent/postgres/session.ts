/**
 * A connection of the agent to its Postgres: one, over the local socket, made when needed and made anew after any error.
 * Statements run one at a time, with a time limit unless the session is one for commits that wait for acknowledgers, so
 * that a stuck Postgres shows as an error and never holds up the agent.
 */
import { join } from 'node:path';
import pg from 'pg';
import { agentRole } from '#core/roles.ts';

const CONNECT_TIMEOUT_MS = 2_000;
const QUERY_TIMEOUT_MS = 3_000;

/** The Shard's own settings, and those of ALTER ROLE and ALTER DATABASE, are not for these sessions. */
const SETTINGS = [
  'statement_timeout=0',
  'lock_timeout=0',
  'transaction_timeout=0',
  'idle_session_timeout=0',
  'idle_in_transaction_session_timeout=0',
  'synchronous_commit=on',
  'default_transaction_read_only=off',
]
  .map((setting) => `-c ${setting}`)
  .join(' ');

/** Where Postgres listens in a folder of sockets (documentation, "Connections and Authentication", unix_socket_directories). */
export const postgresSocketPath = (folder: string, port: number): string => join(folder, `.s.PGSQL.${port}`);

export interface LocalSessionOptions {
  readonly database?: string;
  /** 0: statements take as long as they take. */
  readonly queryTimeoutMs?: number;
  readonly onNotice?: (notice: { readonly code?: string | undefined; readonly routine?: string | undefined }) => void;
}

export class LocalSession {
  readonly #host: string;
  readonly #port: number;
  readonly #options: LocalSessionOptions;
  #client: pg.Client | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(host: string, port: number, options: LocalSessionOptions = {}) {
    this.#host = host;
    this.#port = port;
    this.#options = options;
  }

  /** Process number of the backend; undefined while there is none. */
  get backendPid(): number | undefined {
    return (this.#client as { processID?: number | null } | undefined)?.processID ?? undefined;
  }

  /** `timeoutMs` is for the rare statement that may take long; others wait behind it. */
  query<Row extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
    timeoutMs = this.#timeoutMs,
  ): Promise<Row[]> {
    const result = this.#queue.then(async () => {
      const client = await this.#connected();
      try {
        // The driver takes 0 for "not said", and then has the client's: none for a session without a limit.
        const statement = { text, values: [...values], ...(timeoutMs === 0 ? {} : { query_timeout: timeoutMs }) };
        return (await client.query<Row>(statement)).rows;
      } catch (error) {
        // An error of SQL leaves the connection good; anything else leaves it in doubt.
        if (!(error instanceof pg.DatabaseError) || error.severity === 'FATAL') this.#drop(client);
        throw error;
      }
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => undefined);
  }

  get #timeoutMs(): number {
    return this.#options.queryTimeoutMs ?? QUERY_TIMEOUT_MS;
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client !== undefined) return this.#client;
    const client = new pg.Client({
      host: this.#host,
      port: this.#port,
      user: agentRole,
      database: this.#options.database ?? 'postgres',
      application_name: 'meridian agent',
      options: SETTINGS,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      ...(this.#timeoutMs === 0 ? {} : { query_timeout: this.#timeoutMs }),
    });
    client.on('error', () => this.#drop(client));
    const { onNotice } = this.#options;
    if (onNotice !== undefined) client.on('notice', onNotice);
    try {
      await client.connect();
    } catch (error) {
      void client.end().catch(() => undefined);
      throw error;
    }
    this.#client = client;
    return client;
  }

  #drop(client: pg.Client): void {
    if (this.#client === client) this.#client = undefined;
    void client.end().catch(() => undefined);
  }
}
