/**
 * Elements that are added once and never removed. Durability is seen in the end, when every member is asked for all of
 * them; reads of a few in between show that what was seen stays seen.
 */
import { below, type Random } from '../random.ts';
import type { Recorder } from '../recorder.ts';
import type { Session } from '../session.ts';
import { historyTenant, returningTimeline, timelineOf, type Workload } from '../workload.ts';

export interface SetRead {
  readonly asked: readonly number[];
  readonly found: readonly number[];
}

const READ_SHARE = 0.3;
const ASKED_AT_ONCE = 6;
const RECENT = 40;

export class UniqueSet implements Workload {
  readonly name = 'set';
  readonly sessionsPerDoor = 2;
  readonly recorder: Recorder;
  readonly #run: number;
  #next = 0;

  constructor(recorder: Recorder, run: number) {
    this.recorder = recorder;
    this.#run = run;
  }

  async prepare(): Promise<void> {}

  async step(session: Session, random: Random): Promise<void> {
    if (this.#next === 0 || random() >= READ_SHARE) await this.#add(session);
    else await this.#read(session, random);
  }

  async #add(session: Session): Promise<void> {
    const element = this.#next;
    this.#next += 1;
    await session.operate('add', element, async ({ commit }) => {
      const { rows } = await commit(
        `insert into set_elements (tenant_id, run, element) values ($1, $2, $3) ${returningTimeline}`,
        [historyTenant, this.#run, element],
      );
      return { value: element, ...timelineOf(rows) };
    });
  }

  async #read(session: Session, random: Random): Promise<void> {
    const asked = new Set<number>();
    for (let n = 0; n < ASKED_AT_ONCE; n += 1) asked.add(Math.max(0, this.#next - 1 - below(random, RECENT)));
    const wanted = [...asked];
    await session.operate('read', { asked: wanted, found: [] } satisfies SetRead, async ({ read }) => {
      const { rows } = await read(
        'select element from set_elements where tenant_id = $1 and run = $2 and element = any($3::integer[])',
        [historyTenant, this.#run, wanted],
      );
      const found = rows.map((row: { element: number }) => row.element);
      return { value: { asked: wanted, found } satisfies SetRead };
    });
  }
}
