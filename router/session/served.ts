/** Where a session's statements ran: what `SHOW meridian.served_by` says, and which followers it has read from. */
import type { ChosenMember } from '../exec/member-choice.ts';
import type { Metrics } from '../metrics.ts';

export class Served {
  readonly #metrics: Metrics;
  /** Shard -> follower that served the last read: staying there keeps reads from going back in time. */
  readonly #readers = new Map<string, string>();
  #last: ChosenMember | undefined;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  note(chosen: ChosenMember): void {
    this.#last = chosen;
    this.#metrics.add('statements_total');
    if (chosen.isPrimary) return;
    this.#metrics.add('reads_on_followers_total');
    this.#readers.set(chosen.member.shard, chosen.member.name);
  }

  previousReader(shard: string | undefined): string | undefined {
    return shard === undefined ? undefined : this.#readers.get(shard);
  }

  /** '' before the first statement. */
  get by(): string {
    if (this.#last === undefined) return '';
    const { member, isPrimary } = this.#last;
    const role = isPrimary ? 'primary' : 'follower';
    return `member=${member.name} shard=${member.shard} region=${member.region} role=${role}`;
  }
}
