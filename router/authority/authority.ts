/**
 * Which primary may be used now, and up to when it is believed: asks every member of the map, keeps what each has said, and tells
 * the worker of epochs that the API server hasn't told yet. Highest epoch wins, never a lower one (docs/design-traps.md, ambiguity 25).
 * Leaves to others: the map itself (map/merge.ts), who waits meanwhile (hold.ts), connections (pool/).
 */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { AuthorityAnswer, AuthorityState, RouterWord } from '#core/protocol/authority.ts';
import { Positions } from '../consistency/positions.ts';
import type { Sent } from '../consistency/shard-positions.ts';
import type { ClusterMap, MemberView } from '../map/map.ts';
import type { Metrics } from '../metrics.ts';
import type { TlsContexts } from '../tls.ts';
import { Asker } from './asker.ts';
import { HorizonClock } from './horizon-clock.ts';
import type { Lease, LeaseWatch } from './lease.ts';
import { MemberWords } from './member-words.ts';

export interface AuthorityOptions {
  readonly map: () => ClusterMap | undefined;
  readonly clientContext: () => TlsContexts['client'];
  /** Sessions that have something under way at a member. */
  readonly inFlightAt: (member: string) => number;
  /** A higher epoch of a shard than the map has. */
  readonly onEpoch: (shard: string, epoch: number, primary: string) => void;
  /** A member of the shard has answered: what waits for its primary may be able to go on. */
  readonly onAnswer: (shard: string) => void;
  /** A primary takes nothing new any more, or not yet. */
  readonly onClosed: (member: string) => void;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Everybody is asked so often, since positions go stale; a change of authority is answered at once. */
const askEveryMs = 100;

/** In these nobody is let in, or soon nobody will be. A fenced follower still answers what may be old. */
const closedStates: ReadonlySet<AuthorityState> = new Set(['down', 'starting', 'opening', 'stopping']);

interface Watched {
  readonly shard: string;
  readonly asker: Asker;
  readonly words: MemberWords;
  isSilent: boolean;
}

export class Authority {
  readonly #options: AuthorityOptions;
  readonly #watch: LeaseWatch;
  readonly #id = randomBytes(8).toString('hex');
  readonly #watched = new Map<string, Watched>();
  /** What the members of each shard have seen. */
  readonly positions: Positions;
  #isStopped = false;

  constructor(options: AuthorityOptions) {
    this.#options = options;
    this.#watch = {
      clock: new HorizonClock(),
      onDoubt: () => options.metrics.add('horizon_waits_total'),
      onMiss: () => options.metrics.add('horizon_misses_total'),
    };
    this.positions = new Positions(this.#watch);
  }

  /** Asks the members of this map from now on. */
  follow(map: ClusterMap): void {
    if (this.#isStopped) return;
    this.positions.follow(map);
    for (const [name, watched] of this.#watched) {
      const view = map.members.get(name);
      if (view !== undefined && isSamePlace(watched, view)) continue;
      watched.asker.stop();
      watched.words.forget();
      this.#watched.delete(name);
    }
    for (const view of map.members.values()) if (!this.#watched.has(view.name)) this.#ask(view);
    // What an older epoch's primary still says of itself counts for nothing.
    for (const [name, { shard, words }] of this.#watched) {
      const { epoch = 0, primary } = map.shards.get(shard) ?? {};
      if (name !== primary || words.primaryEpoch < epoch) words.forget();
    }
  }

  /** The lease under which the shard's primary may be sent something new; undefined while that has to wait. */
  leaseOf(member: string): Lease | undefined {
    const watched = this.#watched.get(member);
    if (watched === undefined || watched.words.state !== 'open') return undefined;
    const { lease } = watched.words;
    const shard = this.#options.map()?.shards.get(watched.shard);
    if (lease === undefined || shard?.primary !== member || shard.epoch !== lease.identity.epoch) return undefined;
    return lease.isHeld ? lease : undefined;
  }

  /** Of a shard's primary that has just said that it holds its lease; undefined of anybody else. */
  #epochOfPrimary(member: string): number | undefined {
    const { shard = '', words } = this.#watched.get(member) ?? {};
    const view = this.#options.map()?.shards.get(shard);
    const epoch = words?.state === 'open' ? words.lease?.identity.epoch : undefined;
    return view?.primary === member && view.epoch === epoch ? epoch : undefined;
  }

  /** It is on its way down, or up: also what needs no primary goes elsewhere. */
  isClosed(member: string): boolean {
    const state = this.#watched.get(member)?.words.state;
    return state !== undefined && closedStates.has(state);
  }

  /** Members whose agents don't answer now. */
  get silent(): number {
    return [...this.#watched.values()].filter(({ isSilent }) => isSilent).length;
  }

  /** Tells the members that this router is gone, so that no handover waits for it. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const gone = { id: this.#id, holdsAtEpoch: 0, inFlight: 0, goodbye: true };
    const watched = [...this.#watched.values()];
    this.#watched.clear();
    for (const { words } of watched) words.forget();
    await Promise.all(watched.map(({ asker }) => asker.goodbye(gone)));
  }

  #ask({ name, shard, address, agentAddress, agentPort }: MemberView): void {
    const words = new MemberWords(this.#watch);
    const watched: Watched = {
      shard,
      words,
      isSilent: false,
      asker: new Asker({
        place: { member: name, address: agentAddress ?? address, port: agentPort },
        clock: this.#watch.clock,
        clientContext: this.#options.clientContext,
        word: () => this.#word(name, words),
        waitMs: () => {
          if (words.state === 'stopping') return undefined;
          return askEveryMs;
        },
        answered: (answer, sent) => this.#answered(watched, answer, sent),
        failed: (error) => {
          if (watched.isSilent) return;
          watched.isSilent = true;
          this.#options.log.info({ member: name, shard, err: error }, 'agent does not answer');
        },
      }),
    };
    this.#watched.set(name, watched);
  }

  #word(member: string, words: MemberWords): RouterWord {
    const holdsAtEpoch = words.state === 'stopping' ? words.primaryEpoch : 0;
    return { id: this.#id, holdsAtEpoch, inFlight: this.#options.inFlightAt(member) };
  }

  #answered(watched: Watched, answer: AuthorityAnswer, sent: Sent): void {
    const { shard, words } = watched;
    const member = answer.member.name;
    const { log } = this.#options;
    const view = this.#options.map()?.shards.get(shard);
    // A shard made anew under an old name has nothing to do with the former.
    if (view === undefined || (view.uid !== undefined && view.uid !== answer.shardUid)) return words.forget();
    if (watched.isSilent) log.info({ member, shard }, 'agent answers again');
    watched.isSilent = false;
    const before = words.state;
    const lease = words.lease;
    words.take(answer, sent.bootMs);
    if (lease !== undefined && words.lease !== lease)
      log.warn({ shard, lease: lease.identity, now: words.lease?.identity }, 'lease lost');
    if (words.primaryEpoch > 0 && words.state !== before)
      log.info({ member, shard, epoch: words.primaryEpoch, before, state: words.state }, 'primary changes state');
    this.positions.of(shard).take(answer, sent, this.#epochOfPrimary(member));
    const { known } = answer;
    if (known !== undefined && known.epoch > view.epoch) this.#options.onEpoch(shard, known.epoch, known.member.name);
    else if (this.isClosed(member)) this.#options.onClosed(member);
    this.#options.onAnswer(shard);
  }
}

const isSamePlace = ({ shard, asker: { place } }: Watched, view: MemberView): boolean =>
  shard === view.shard && place.address === (view.agentAddress ?? view.address) && place.port === view.agentPort;
