/** Clients at work while something happens to their primary: what was acknowledged, what wasn't, and which errors they saw. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { codeOf } from './router-assertions.ts';

export const insert = (id: number): string => `insert into accounts (tenant_id, id) values ('acme', ${id})`;

/** Where clients connect. */
export interface Door {
  connect(user: string): Promise<pg.Client>;
}

/** Clients that write and read without a pause, each on a connection of its own, and what became of it. */
export class Crowd {
  readonly acknowledged = new Set<number>();
  readonly unknown = new Set<number>();
  readonly errors: string[] = [];
  readonly #running: Promise<void>[] = [];
  #isOver = false;
  #id: number;
  longestMs = 0;

  constructor(router: Door, firstId: number) {
    this.#id = firstId;
    const kinds: readonly ((client: pg.Client) => Promise<void>)[] = [
      (client) => this.#write(client),
      (client) => this.#transact(client),
      (client) => this.#read(client),
      (client) => this.#readEventually(client),
    ];
    for (let round = 0; round < 3; round++) for (const kind of kinds) this.#running.push(this.#run(router, kind));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#running);
  }

  async #run(router: Door, work: (client: pg.Client) => Promise<void>): Promise<void> {
    const client = await router.connect('acme_app');
    while (!this.#isOver) {
      const startedMs = performance.now();
      try {
        await work(client);
      } catch (error) {
        this.errors.push(`${codeOf(error)} ${String(error)}`);
        await client.query('rollback').catch(() => undefined);
      }
      this.longestMs = Math.max(this.longestMs, performance.now() - startedMs);
      await sleep(2);
    }
    await client.end();
  }

  async #write(client: pg.Client): Promise<void> {
    const id = (this.#id += 1);
    await client
      .query({ text: `insert into accounts (tenant_id, id) values ('acme', $1)`, values: [id] })
      .catch((error) => {
        if (codeOf(error) === '08007') this.unknown.add(id);
        throw error;
      });
    this.acknowledged.add(id);
  }

  async #transact(client: pg.Client): Promise<void> {
    const id = (this.#id += 1);
    await client.query('begin');
    await client.query(insert(id));
    await sleep(5);
    await client.query(`update accounts set balance = 1 where tenant_id = 'acme' and id = ${id}`);
    await client.query('commit').catch((error) => {
      if (codeOf(error) === '08007') this.unknown.add(id);
      throw error;
    });
    this.acknowledged.add(id);
  }

  async #read(client: pg.Client): Promise<void> {
    await client.query("select count(*) from accounts where tenant_id = 'acme'");
    await client.query('select 1');
  }

  async #readEventually(client: pg.Client): Promise<void> {
    await client.query("/* consistency='eventual' */ select count(*) from accounts where tenant_id = 'acme'");
  }
}
