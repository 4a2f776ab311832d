/** A shard as its agents tell a router of it, on a clock that a test moves. */
import { formatLsn, type Lsn } from '#core/lsn.ts';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';
import { HorizonClock } from '#router/authority/horizon-clock.ts';
import { Positions } from '#router/consistency/positions.ts';
import type { ShardPositions } from '#router/consistency/shard-positions.ts';
import type { ClusterMap } from '#router/map/map.ts';

export const incarnation = '00000000000000aa';
export const lsn = (value: number): Lsn => BigInt(value) as Lsn;

export interface Heard {
  readonly member?: string;
  readonly epoch?: number;
  readonly lsn: number;
  readonly postmaster?: string;
  /** Of a primary: its epoch, with a lease. */
  readonly primary?: number;
  readonly keepers?: readonly string[];
  readonly acknowledgements?: number;
  /** What so many have flushed as have to. */
  readonly acknowledged?: number;
  readonly history?: AuthorityAnswer['history'];
  /** How long ago the question was sent. */
  readonly agoMs?: number;
}

export class Observed {
  nowMs = 100_000;
  readonly positions: Positions;
  readonly shard: ShardPositions;

  constructor() {
    const read = (): number => this.nowMs;
    const clock = new HorizonClock({ bootMs: read, monotonicMs: read, wallMs: read });
    this.positions = new Positions({ clock, onDoubt: () => {}, onMiss: () => {} });
    this.positions.follow({ shards: new Map([['one', { name: 'one', epoch: 1 }]]) } as unknown as ClusterMap);
    this.shard = this.positions.of('one');
  }

  later(ms: number): void {
    this.nowMs += ms;
  }

  /** An agent answers now. */
  hear({ member = 'follower', epoch = 1, postmaster = 'p1', agoMs = 0, ...said }: Heard): void {
    const answer: AuthorityAnswer = {
      member: { name: member, incarnation },
      shardUid: 'uid',
      region: 'eu',
      version: 1,
      state: said.primary === undefined ? 'following' : 'open',
      promise: { epoch, grantee: '', generation: 1, ageMs: 1 },
      agentAgeMs: 1,
      position: {
        begunMs: 0,
        postmaster,
        isRecovering: said.primary === undefined,
        epoch,
        lsn: formatLsn(lsn(said.lsn)),
      },
      ...(said.primary === undefined ? {} : { primary: primaryAt(said.primary) }),
      ...(said.acknowledged === undefined
        ? {}
        : { acknowledged: { epoch: said.primary ?? epoch, lsn: formatLsn(lsn(said.acknowledged)) } }),
      ...(said.history === undefined ? {} : { history: said.history }),
      ...(said.keepers === undefined
        ? {}
        : {
            keepers: {
              acknowledgements: said.acknowledgements ?? 1,
              members: said.keepers.map((name) => ({ name, incarnation })),
            },
          }),
    };
    const sentMs = this.nowMs - agoMs;
    this.shard.take(answer, { bootMs: sentMs, monotonicMs: sentMs }, said.primary);
  }

  /** The primary is there now, and so is the follower, which counts. */
  together(at: number): void {
    this.hear({ member: 'follower', lsn: at });
    this.hear({ member: 'primary', lsn: at, primary: 1, keepers: ['follower'] });
  }
}

const primaryAt = (epoch: number): NonNullable<AuthorityAnswer['primary']> => ({
  epoch,
  timeline: epoch,
  serving: true,
  leaseRemainingMs: 2_800,
  leaseNumber: 0,
  released: false,
});
