/**
 * What the controllers may ask of the takeover service, and what it tells them: words only.
 * The service itself (`service.ts`) runs in every replica; what was decided is in the record, never only here.
 */
import type { MemberIdentity } from '#core/identity.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';

export interface HandoverWish {
  readonly target: MemberIdentity;
  /** For people: who or what asked for it. */
  readonly why: string;
}

export type TakeoverKind = 'Failover' | 'Handover';

/**
 * Done: another primary was decided. Undone: the same one, at a new epoch. Overtaken: somebody else decided meanwhile.
 * Stopped: nothing (more) to do, or not now; the message says why.
 */
export type TakeoverOutcome = 'Done' | 'Undone' | 'Overtaken' | 'Stopped';

export interface TakeoverReport {
  readonly kind: TakeoverKind;
  readonly running: boolean;
  /** What it is doing, or what it did last, for people. */
  readonly message: string;
  /** Members whose answer is missing for it to go on. */
  readonly missing: readonly string[];
  /** Once it has ended. */
  readonly outcome?: TakeoverOutcome | undefined;
  /** How long ago this was so. */
  readonly ageMs: number;
}

export interface Takeovers {
  /**
   * Asks for a planned handover; returns at once, may be repeated. It goes on only while the record and the target are as
   * they must be, and its outcome shows in the record, in Events and in `reportOf`.
   */
  handOver(shard: Stored<Shard>, wish: HandoverWish): void;
  /** The last thing that this replica did, or found that it can't do, about the authority of this shard. */
  reportOf(shardUid: string): TakeoverReport | undefined;
}
