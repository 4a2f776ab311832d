/**
 * Connections to members that are kept for a few seconds after use, for callers with many short uses (one per tenant).
 * Invariant: a connection serves one use at a time, and only a use that succeeded gives it back; what was left open in a transaction
 * by a failed one dies with it.
 */
import { createHash } from 'node:crypto';
import type { Client } from 'pg';
import {
  type ClientCredentials,
  type ConnectionBounds,
  connectMember,
  endQuietly,
  type MemberTarget,
} from './connect.ts';

interface Idle {
  readonly client: Client;
  readonly timer: NodeJS.Timeout;
}

export interface KeptConnectionsOptions {
  /** How long an unused connection stays open; default 10 s. */
  readonly idleMs?: number;
  /** Unused connections kept for each member and database; default 2. */
  readonly maxIdle?: number;
  readonly bounds?: ConnectionBounds;
}

export class KeptConnections {
  readonly #idle = new Map<string, Idle[]>();
  readonly #options: KeptConnectionsOptions;

  constructor(options: KeptConnectionsOptions = {}) {
    this.#options = options;
  }

  async use<T>(
    target: MemberTarget,
    database: string,
    credentials: ClientCredentials,
    use: (client: Client) => Promise<T>,
  ): Promise<T> {
    const key = keyOfUse(target, database, credentials);
    const client = this.#take(key) ?? (await connectMember(target, database, credentials, this.#options.bounds));
    let result: T;
    try {
      result = await use(client);
    } catch (error) {
      await endQuietly(client);
      throw error;
    }
    await this.#giveBack(key, client);
    return result;
  }

  /** Closes what is unused. Those in use close when they are given back after `idleMs`. */
  async close(): Promise<void> {
    const all = [...this.#idle.values()].flat();
    this.#idle.clear();
    await Promise.all(
      all.map(({ client, timer }) => {
        clearTimeout(timer);
        return endQuietly(client);
      }),
    );
  }

  #take(key: string): Client | undefined {
    const found = this.#idle.get(key)?.pop();
    if (found === undefined) return undefined;
    clearTimeout(found.timer);
    return found.client;
  }

  async #giveBack(key: string, client: Client): Promise<void> {
    const { idleMs = 10_000, maxIdle = 2 } = this.#options;
    const list = this.#idle.get(key) ?? [];
    if (list.length >= maxIdle) return endQuietly(client);
    const drop = (): void => {
      const at = list.findIndex((idle) => idle.client === client);
      if (at < 0) return;
      clearTimeout(list[at]?.timer);
      list.splice(at, 1);
      if (list.length === 0 && this.#idle.get(key) === list) this.#idle.delete(key);
      void endQuietly(client);
    };
    const timer = setTimeout(drop, idleMs);
    // A process that ends doesn't wait for unused connections.
    timer.unref();
    // The server may end it first (a restart, a failover): then nobody must get it any more.
    client.once('end', drop);
    list.push({ client, timer });
    this.#idle.set(key, list);
    return undefined;
  }
}

/** Another certificate or address means another connection. */
function keyOfUse(target: MemberTarget, database: string, credentials: ClientCredentials): string {
  const certificate = createHash('sha256').update(credentials.certificate).digest('base64');
  return JSON.stringify([
    target.namespace,
    target.keyspace,
    target.member,
    target.address,
    target.port,
    database,
    certificate,
  ]);
}
