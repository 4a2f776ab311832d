/**
 * A client that asks at a constant rate whatever happens to its questions: those that can't be asked at once wait their
 * turn, and none is left out. Each is the insertion of an element of its own, so that losses and doubles can be counted.
 */
import type { Recorder } from '../../history/recorder.ts';
import { type Door, Session } from '../../history/session.ts';
import { historyTenant, returningTimeline, timelineOf } from '../../history/workload.ts';

export interface OpenLoopOptions {
  readonly door: Door;
  readonly recorder: Recorder;
  readonly run: number;
  readonly perSecond: number;
  readonly sessions: number;
}

const RECONNECT_PAUSE_MS = 100;

export class OpenLoop {
  readonly #options: OpenLoopOptions;
  readonly #sessions: Session[];
  readonly #idle: Session[] = [];
  readonly #waiting: number[] = [];
  #next = 0;
  #startedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #underWay = 0;
  #onQuiet: (() => void) | undefined;
  #isStopped = false;

  constructor(options: OpenLoopOptions) {
    this.#options = options;
    const { door, recorder } = options;
    this.#sessions = Array.from(
      { length: options.sessions },
      () => new Session({ door, recorder, deadlineMs: 30_000 }),
    );
  }

  async start(): Promise<void> {
    for (const session of this.#sessions) await session.open();
    this.#idle.push(...this.#sessions);
    this.#startedAt = performance.now();
    const intervalMs = 1000 / this.#options.perSecond;
    // Catches up with what was due where the timer itself comes late.
    this.#timer = setInterval(() => {
      const due = Math.floor((performance.now() - this.#startedAt) / intervalMs);
      while (this.#next < due) {
        this.#waiting.push(this.#next);
        this.#next += 1;
      }
      this.#ask();
    }, intervalMs / 2);
  }

  /** Ends when every question has its answer, or the time is over. */
  async stop(withinMs: number): Promise<void> {
    clearInterval(this.#timer);
    if (this.#underWay > 0 || this.#waiting.length > 0) {
      const quiet = Promise.withResolvers<void>();
      this.#onQuiet = quiet.resolve;
      const timer = setTimeout(quiet.resolve, withinMs);
      await quiet.promise;
      clearTimeout(timer);
    }
    this.#isStopped = true;
    await Promise.all(this.#sessions.map((session) => session.close()));
    this.#options.recorder.flush();
  }

  #ask(): void {
    while (this.#waiting.length > 0) {
      const session = this.#idle.pop();
      if (session === undefined) return;
      const element = this.#waiting.shift();
      if (element === undefined) return;
      this.#underWay += 1;
      void this.#insert(session, element);
    }
    if (this.#underWay === 0) this.#onQuiet?.();
  }

  async #insert(session: Session, element: number): Promise<void> {
    await session.operate('add', element, async ({ commit }) => {
      const { rows } = await commit(
        `insert into set_elements (tenant_id, run, element) values ($1, $2, $3) ${returningTimeline}`,
        [historyTenant, this.#options.run, element],
      );
      return { value: element, ...timelineOf(rows) };
    });
    this.#underWay -= 1;
    await this.#reopen(session);
    this.#idle.push(session);
    this.#ask();
  }

  async #reopen(session: Session): Promise<void> {
    while (!this.#isStopped) {
      try {
        return await session.open();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, RECONNECT_PAUSE_MS));
      }
    }
  }
}
