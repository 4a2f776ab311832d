/**
 * Where a shard's primary was, and when: pairs of a position and the time at which the question was sent that it answers. Whatever was
 * committed before that time lies at or before that position, so who has replayed the position is at most as old as the time is ago:
 * no clock but this router's own (docs/design-traps.md, T5). Bounded: older ones are kept ever further apart, at no cost but precision.
 */
import { covers, type History, type Position } from '#core/consistency/position.ts';

export interface Sample {
  readonly position: Position;
  /** When the question was sent, never later: on the boot-time clock, for ages. */
  readonly atMs: number;
  /** The same on the monotonic clock, for what came before what. */
  readonly askedMs: number;
}

const maxSamples = 400;
/** Of these none is left out. */
const recentSamples = 100;

export class Samples {
  /** Oldest first. */
  #samples: Sample[] = [];

  get newest(): Sample | undefined {
    return this.#samples.at(-1);
  }

  add(sample: Sample): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && (sample.askedMs <= last.askedMs || sample.position.epoch < last.position.epoch)) return;
    // Nothing was written in between: the one before it and the newest say all.
    const before = this.#samples.at(-2);
    if (last !== undefined && before !== undefined && isSame(before, last) && isSame(last, sample)) this.#samples.pop();
    this.#samples.push(sample);
    if (this.#samples.length > maxSamples) this.#thin();
  }

  /** The newest one that `at` has surely seen: `at` is not older than that. */
  newestSeenBy(at: Position, history: History): Sample | undefined {
    return this.#samples.findLast((sample) => covers(at, sample.position, history));
  }

  /** Where the primary was at a time not before: everything that had been committed by then lies before it. */
  firstAskedSince(sinceMs: number): Sample | undefined {
    const newest = this.newest;
    if (newest === undefined || newest.askedMs < sinceMs) return undefined;
    return this.#samples.find(({ askedMs }) => askedMs >= sinceMs);
  }

  #thin(): void {
    const old = this.#samples.length - recentSamples;
    this.#samples = this.#samples.filter((_sample, index) => index >= old || index % 2 === 0);
  }
}

const isSame = (one: Sample, other: Sample): boolean =>
  one.position.epoch === other.position.epoch && one.position.lsn === other.position.lsn;
