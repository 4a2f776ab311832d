/**
 * The agent's own commits on a primary: the one that opens it, then one every 500 ms that shows that it serves.
 *
 * The first is the opening gate: a row that says which epoch, timeline and opening this is, written after the end of this
 * recovery. Once its commit has returned, k followers have flushed it and with it everything before, so nothing that is
 * seen from then on can be lost (docs/design-traps.md, A6, B2). A commit whose wait was ended by something else says so with
 * a warning, and doesn't count.
 * "Serving" means that such a commit was done lately, or that only followers keep it from being done: a primary that is
 * well isn't to be doubted for those that it waits for (A13, B9).
 */
import type { LocalSession } from '#agent/postgres/session.ts';
import { bootTimeMs } from '#clock/boot-time.ts';
import { canaryMs } from '#core/authority/timing.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { gateSql, heartbeatSql, prepareSql } from './commits-sql.ts';

/** One that waits for acknowledgers: made for the keyspace's database, without a time limit. */
export type CommitSession = Pick<LocalSession, 'query' | 'close' | 'backendPid'>;

export interface CommitsOptions {
  readonly connect: (database: string, onCancelledWait: () => void) => CommitSession;
  /** The agent's other session, which waits for nobody. */
  readonly session: Pick<LocalSession, 'query'>;
  readonly onChange: () => void;
  readonly log: { warn(details: object, message: string): void };
  readonly now?: () => number;
}

export type OpeningState = 'none' | 'waiting' | 'passed';

const BEAT_MS = 500;
const RETRY_MS = 500;
const LOOK_MS = 250;

export class Commits {
  readonly #options: CommitsOptions;
  readonly #now: () => number;
  #run: Run | undefined;

  constructor(options: CommitsOptions) {
    this.#options = options;
    this.#now = options.now ?? bootTimeMs;
  }

  get opening(): OpeningState {
    if (this.#run === undefined) return 'none';
    return this.#run.hasPassed ? 'passed' : 'waiting';
  }

  /** That the commits of this run name; 0 for none. */
  get epoch(): number {
    return this.#run?.epoch ?? 0;
  }

  get problem(): string {
    return this.#run?.problem ?? '';
  }

  /** A commit was done in the last 2 s, or only followers kept it from being done. */
  get isServing(): boolean {
    const { committedAt = -Infinity, followersMissedAt = -Infinity } = this.#run ?? {};
    return this.#now() - Math.max(committedAt, followersMissedAt) < canaryMs;
  }

  /** Begins to open this primary under these orders; from here on it goes by itself. */
  begin(orders: Orders): void {
    const { committedAt = -Infinity, followersMissedAt = -Infinity } = this.#run ?? {};
    this.end();
    const run = new Run(orders.epoch);
    // The same primary, at another epoch: it has served until now.
    run.committedAt = committedAt;
    run.followersMissedAt = followersMissedAt;
    this.#run = run;
    void this.#commit(run, orders);
    void this.#watch(run);
  }

  /** Postgres goes down or has gone, or is to be opened anew. */
  end(): void {
    const run = this.#run;
    this.#run = undefined;
    run?.end();
  }

  async #commit(run: Run, orders: Orders): Promise<void> {
    const { shard, epoch, timeline, history } = orders;
    const forkLsn = history.findLast((entry) => entry.epoch === epoch)?.forkLsn ?? '0/0';
    while (!run.hasEnded) {
      run.wasCancelled = false;
      const session = this.#options.connect(shard.database, () => {
        run.wasCancelled = true;
      });
      run.session = session;
      try {
        const [row] = await session.query<{ exists: boolean }>(
          `select pg_catalog.to_regclass('meridian.heartbeat') is not null as exists`,
        );
        if (row?.exists !== true) await session.query(prepareSql);
        if (!run.hasPassed) {
          await session.query(gateSql, [epoch, timeline, forkLsn]);
          if (run.hasEnded) return;
          if (run.wasCancelled) throw new Error('the wait for the followers was ended by something else');
          run.committedAt = this.#now();
          run.hasPassed = true;
          run.problem = '';
          this.#options.onChange();
        }
        await this.#beat(run, session);
      } catch (error) {
        if (run.hasEnded) return;
        run.problem = error instanceof Error ? error.message : String(error);
        this.#options.log.warn({ err: error, hasPassed: run.hasPassed }, 'own commit failed');
        await session.close();
        await run.pause(RETRY_MS);
      }
    }
  }

  async #beat(run: Run, session: CommitSession): Promise<void> {
    while (!run.hasEnded) {
      await run.pause(BEAT_MS);
      if (run.hasEnded) return;
      const begunAt = this.#now();
      await session.query(heartbeatSql);
      run.committedAt = begunAt;
    }
  }

  /** Notes when a commit is seen to wait for followers, and for nothing else. */
  async #watch(run: Run): Promise<void> {
    while (!run.hasEnded) {
      await run.pause(LOOK_MS);
      const pid = run.session?.backendPid;
      if (run.hasEnded || pid === undefined || this.#now() - run.committedAt < 2 * BEAT_MS) continue;
      const lookedAt = this.#now();
      const rows = await this.#options.session
        .query<{ event: string | null }>('select wait_event as event from pg_catalog.pg_stat_activity where pid = $1', [
          pid,
        ])
        .catch(() => []);
      if (rows[0]?.event === 'SyncRep') run.followersMissedAt = lookedAt;
    }
  }
}

class Run {
  readonly epoch: number;
  session: CommitSession | undefined;
  hasPassed = false;
  wasCancelled = false;
  problem = '';
  committedAt = -Infinity;
  followersMissedAt = -Infinity;
  #ended = false;
  readonly #wakeUps = new Set<() => void>();

  constructor(epoch: number) {
    this.epoch = epoch;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  end(): void {
    this.#ended = true;
    for (const wakeUp of this.#wakeUps) wakeUp();
    void this.session?.close();
  }

  pause(ms: number): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => {
      const wakeUp = (): void => {
        clearTimeout(timer);
        this.#wakeUps.delete(wakeUp);
        resolve();
      };
      const timer = setTimeout(wakeUp, ms);
      this.#wakeUps.add(wakeUp);
    });
  }
}
