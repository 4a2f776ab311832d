/** Where a session's statements ran: what `SHOW meridian.served_by` says, and which followers it has read from. */
import type { MemberView } from '../map/map.ts';
import { type Metrics, slotOf } from '../metrics.ts';

const statementsTotal = slotOf('statements_total');

export class Served {
  readonly #metrics: Metrics;
  /** Shard -> follower that served the last read: staying there keeps reads from going back in time. */
  #readers: Map<string, string> | undefined;
  #member: MemberView | undefined;
  #isPrimary = false;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  note(member: MemberView, isPrimary: boolean): void {
    this.#member = member;
    this.#isPrimary = isPrimary;
    this.#metrics.addAt(statementsTotal, 1);
    if (isPrimary) return;
    this.#readers ??= new Map();
    this.#readers.set(member.shard, member.name);
  }

  /** What was sent last has been answered to the client, not in vain. */
  noteAnswer(): void {
    if (this.#member !== undefined && !this.#isPrimary) this.#metrics.add('reads_on_followers_total');
  }

  previousReader(shard: string | undefined): string | undefined {
    return shard === undefined ? undefined : this.#readers?.get(shard);
  }

  /** '' before the first statement. */
  get by(): string {
    const member = this.#member;
    if (member === undefined) return '';
    const role = this.#isPrimary ? 'primary' : 'follower';
    return `member=${member.name} shard=${member.shard} region=${member.region} role=${role}`;
  }
}
