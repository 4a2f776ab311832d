/**
 * The agent's own connection to its Postgres: one, over the local socket, made when needed and made anew after any error.
 * Statements run one at a time with a time limit, so that a stuck Postgres shows as an error and never holds up the
 * agent. Nothing that is asked here waits for acknowledgers.
 */
import pg from 'pg';
import { agentRole } from '#core/roles.ts';

const CONNECT_TIMEOUT_MS = 2_000;
const QUERY_TIMEOUT_MS = 3_000;

export class LocalSession {
  readonly #host: string;
  readonly #port: number;
  #client: pg.Client | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  /** `timeoutMs` is for the rare statement that may take long; others wait behind it. */
  query<Row extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
    timeoutMs = QUERY_TIMEOUT_MS,
  ): Promise<Row[]> {
    const result = this.#queue.then(async () => {
      const client = await this.#connected();
      try {
        const statement = { text, values: [...values], query_timeout: timeoutMs };
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

  async #connected(): Promise<pg.Client> {
    if (this.#client !== undefined) return this.#client;
    const client = new pg.Client({
      host: this.#host,
      port: this.#port,
      user: agentRole,
      database: 'postgres',
      application_name: 'meridian agent',
      // The Shard's own limits, which may be shorter than a checkpoint takes, are not for this session.
      options: '-c statement_timeout=0 -c lock_timeout=0 -c transaction_timeout=0 -c idle_session_timeout=0',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
    });
    client.on('error', () => this.#drop(client));
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
