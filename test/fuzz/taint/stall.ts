/**
 * Notices that nothing goes on any more, which no time-out of a single client would: tells who waits for what, on both sides of the
 * router. Time is counted in turns of the event loop, so that a machine that stood still is no stall.
 */
import type { TestRouter } from '../../integration/router-keyspace.ts';

const turnMs = 1_000;

/** What each client is at, for as long as it is. */
export class Whereabouts {
  readonly #places = new Map<number, { readonly what: string; readonly sinceMs: number }>();

  at(client: number, what: string): void {
    this.#places.set(client, { what, sinceMs: performance.now() });
  }

  left(client: number): void {
    this.#places.delete(client);
  }

  /** Most first: how many, for how long, and one of them. */
  get told(): string[] {
    const groups = new Map<string, { count: number; longestMs: number; client: number }>();
    const nowMs = performance.now();
    for (const [client, { what, sinceMs }] of this.#places) {
      const group = groups.get(what) ?? { count: 0, longestMs: 0, client };
      if (nowMs - sinceMs > group.longestMs) Object.assign(group, { longestMs: nowMs - sinceMs, client });
      group.count += 1;
      groups.set(what, group);
    }
    return [...groups]
      .toSorted(([, one], [, other]) => other.count - one.count)
      .map(
        ([what, { count, longestMs, client }]) =>
          `${count} clients: ${what}, for ${(longestMs / 1_000).toFixed(0)} s at most (client ${client})`,
      );
  }
}

export interface Watched {
  readonly whereabouts: Whereabouts;
  readonly router: TestRouter;
  /** Any number that grows while something goes on. */
  readonly progress: () => number;
  /** Turns without progress that are too many. */
  readonly patienceTurns: number;
}

/** Never resolves. @throws (rejects) with what is known, when nothing has gone on for too long. */
export function stalled({ whereabouts, router, progress, patienceTurns }: Watched): {
  promise: Promise<never>;
  stop: () => void;
} {
  let last = -1;
  let turns = 0;
  let timer: NodeJS.Timeout | undefined;
  const promise = new Promise<never>((_resolve, reject) => {
    timer = setInterval(() => {
      const now = progress();
      turns = now === last ? turns + 1 : 0;
      last = now;
      if (turns < patienceTurns) return;
      clearInterval(timer);
      void situation(whereabouts, router).then((lines) =>
        reject(new Error(`nothing went on for ${turns} s\n${lines.join('\n')}`)),
      );
    }, turnMs);
  });
  return { promise, stop: () => clearInterval(timer) };
}

/** What clients, sessions and connections to members are at. */
export async function situation(whereabouts: Whereabouts, router: TestRouter): Promise<string[]> {
  const gauges = Object.entries(router.worker.gauges).filter(([, value]) => value !== 0);
  return [
    ...whereabouts.told,
    `router: ${router.worker.metrics.get('clients')} clients, ${gauges.map(([name, value]) => `${name} ${value}`).join(', ')}`,
    ...(await tables(router)),
  ];
}

/** The router's own word on it: of those who are not idle. */
async function tables(router: TestRouter): Promise<string[]> {
  const looked = router.with(
    'any_app',
    async (client) => {
      const lines: string[] = [];
      for (const what of ['CLIENTS', 'SERVERS']) {
        const { rows } = await client.query<Record<string, string | number | null>>(`SHOW ${what}`);
        const busy = rows.filter(({ state }) => state !== 'idle').slice(0, 40);
        lines.push(`SHOW ${what}: ${rows.length}, of which not idle:`);
        for (const row of busy)
          lines.push(
            `  ${['user', 'state', 'ptr', 'link', 'wait', 'request_time', 'member'].map((name) => `${row[name] ?? ''}`).join(' ')}`,
          );
      }
      return lines;
    },
    { database: 'meridian', connectionTimeoutMillis: 10_000, query_timeout: 10_000 },
  );
  return looked.catch((error: unknown) => [`the admin database says nothing: ${String(error)}`]);
}
