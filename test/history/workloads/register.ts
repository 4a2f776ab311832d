/**
 * Registers with read, write and compare-and-set, each a statement by itself. A register is given up for a new one after
 * a while: the search for a linear order grows with the operations on one register whose outcome nobody knows.
 */
import { below, type Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { Session } from '../session.ts';
import { historyTenant, returningTimeline, timelineOf, type Workload } from '../workload.ts';

/** What is invoked and, with `value` or `swapped` filled in, returned. */
export interface RegisterValue {
  readonly register: number;
  /** Read: null is a register that was never written. */
  readonly value?: number | null;
  readonly expected?: number;
  readonly swapped?: boolean;
}

const AT_ONCE = 4;
const OPERATIONS_PER_REGISTER = 150;

export class Register implements Workload {
  readonly name = 'register';
  readonly sessionsPerDoor = 2;
  readonly recorder: Recorder;
  readonly #run: number;
  #operations = 0;
  #nextValue = 0;
  /** The last value seen or written, by register: what a compare-and-set is likely to find. */
  readonly #lastSeen = new Map<number, number>();

  constructor(recorder: Recorder, run: number) {
    this.recorder = recorder;
    this.#run = run;
  }

  async prepare(): Promise<void> {}

  async step(session: Session, random: Random): Promise<void> {
    const generation = Math.floor(this.#operations / (AT_ONCE * OPERATIONS_PER_REGISTER));
    this.#operations += 1;
    const register = generation * AT_ONCE + below(random, AT_ONCE);
    const dice = random();
    if (dice < 0.4) await this.#read(session, register);
    else if (dice < 0.7) await this.#write(session, register);
    else await this.#compareAndSet(session, register);
  }

  async #read(session: Session, register: number): Promise<void> {
    await session.operate('read', { register } satisfies RegisterValue, async ({ read }) => {
      const { rows } = await read('select value from registers where tenant_id = $1 and run = $2 and name = $3', [
        historyTenant,
        this.#run,
        register,
      ]);
      const value = (rows[0] as { value: number } | undefined)?.value ?? null;
      if (value !== null) this.#lastSeen.set(register, value);
      return { value: { register, value } satisfies RegisterValue };
    });
  }

  async #write(session: Session, register: number): Promise<void> {
    const value = this.#newValue();
    const invoked: RegisterValue = { register, value };
    await session.operate('write', invoked, async ({ commit }) => {
      const { rows } = await commit(
        `insert into registers (tenant_id, run, name, value) values ($1, $2, $3, $4)
         on conflict (tenant_id, run, name) do update set value = excluded.value ${returningTimeline}`,
        [historyTenant, this.#run, register, value],
      );
      this.#lastSeen.set(register, value);
      return { value: invoked, ...timelineOf(rows) };
    });
  }

  async #compareAndSet(session: Session, register: number): Promise<void> {
    const expected = this.#lastSeen.get(register) ?? 0;
    const value = this.#newValue();
    await session.operate('cas', { register, expected, value } satisfies RegisterValue, async ({ commit }) => {
      const { rows } = await commit(
        `update registers set value = $4 where tenant_id = $1 and run = $2 and name = $3 and value = $5 ${returningTimeline}`,
        [historyTenant, this.#run, register, value, expected],
      );
      const swapped = rows.length === 1;
      if (swapped) this.#lastSeen.set(register, value);
      return { value: { register, expected, value, swapped } satisfies RegisterValue, ...timelineOf(rows) };
    });
  }

  #newValue(): number {
    this.#nextValue += 1;
    return this.#nextValue;
  }
}
