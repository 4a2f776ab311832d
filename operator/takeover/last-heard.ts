/**
 * How far the log of a primary went when it was last heard, of shards with k = 0: there a failover may lose what only it had, and
 * this is all that can be said of how much until it is back. For people only; nothing is decided by it.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import { primaryOf, sameMember } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { StatusAnswer } from '../agents/client.ts';

export interface HeardPosition {
  readonly timeline: number;
  readonly lsn: string;
}

interface Kept {
  askedMs: number;
  isAsking: boolean;
  last: { readonly primary: MemberIdentity; readonly position: HeardPosition } | undefined;
}

const askEveryMs = 1_000;

export class LastHeard {
  readonly #nowMs: () => number;
  /** By UID of the Shard. */
  readonly #kept = new Map<string, Kept>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Asks the primary, if it is time to; returns at once. */
  look(shardUid: string, record: AuthorityRecord, ask: () => Promise<StatusAnswer>): void {
    const kept = this.#kept.get(shardUid) ?? { askedMs: Number.NEGATIVE_INFINITY, isAsking: false, last: undefined };
    this.#kept.set(shardUid, kept);
    if (kept.isAsking || this.#nowMs() - kept.askedMs < askEveryMs) return;
    kept.askedMs = this.#nowMs();
    kept.isAsking = true;
    const note = (answer: StatusAnswer): void => {
      if (answer.kind !== 'status') return;
      const { member, postgres } = answer.status;
      if (postgres === undefined || postgres.inRecovery || !sameMember(member, primaryOf(record))) return;
      kept.last = { primary: primaryOf(record), position: { timeline: postgres.timeline, lsn: postgres.lsn.flushed } };
    };
    void ask()
      .then(note, () => undefined)
      .finally(() => {
        kept.isAsking = false;
      });
  }

  of(shardUid: string, primary: MemberIdentity): HeardPosition | undefined {
    const last = this.#kept.get(shardUid)?.last;
    return last !== undefined && sameMember(last.primary, primary) ? last.position : undefined;
  }

  /** Forgets all but these. */
  keepOnly(shardUids: ReadonlySet<string>): void {
    for (const uid of this.#kept.keys()) if (!shardUids.has(uid)) this.#kept.delete(uid);
  }
}
