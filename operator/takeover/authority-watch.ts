/**
 * What every member of every shard says about authority, asked again and again over connections of its own. Decides nothing.
 * Invariants: at most one question to a member is under way, each with a deadline, so that a stuck member or a lost region
 * costs its own place only; an answer that took longer than its deadline is none (this process may have been paused: what
 * waited in its socket meanwhile is old news); nothing here waits for the API server.
 */
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { Ping, Pings } from '#core/authority/suspicion.ts';
import { replicationName } from '#core/identity.ts';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';
import type { AuthorityReply } from '../agents/client.ts';

/** Where a member is asked. */
export interface AskedMember {
  readonly namespace: string;
  readonly keyspace: string;
  readonly shard: string;
  readonly name: string;
  /** Undefined while its pod has none. */
  readonly address: string | undefined;
}

export interface AuthorityWatchOptions {
  readonly ask: (member: AskedMember) => Promise<AuthorityReply>;
  readonly nowMs: () => number;
  readonly timeoutMs: number;
  /** Fulfilled after so long, or as soon as `sooner` is. */
  readonly pause: (ms: number, sooner: Promise<unknown>) => Promise<void>;
}

/** More than any way between regions and back takes. */
const silentPatienceMs = 400;

/** Whose members. */
export interface WatchedShard {
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly uid: string;
}

interface Kept {
  readonly shard: string;
  readonly address: string | undefined;
  /** Since when it has been watched, or was last heard. */
  lastWordMs: number;
  answered: { readonly answer: AuthorityAnswer; readonly atMs: number } | undefined;
  /** Of the last question that failed. */
  silence: string;
  asking: Promise<void> | undefined;
  askedMs: number;
}

export class AuthorityWatch {
  readonly #options: AuthorityWatchOptions;
  readonly #kept = new Map<string, Kept>();

  constructor(options: AuthorityWatchOptions) {
    this.#options = options;
  }

  /** Asks those whose last question is at least so old. Fulfilled when all that were due have answered or been given up. */
  async ask(members: readonly AskedMember[], ageMs: number): Promise<void> {
    const nowMs = this.#options.nowMs();
    await Promise.all(
      members.map(async (member) => {
        const kept = this.#of(member, nowMs);
        if (kept.asking === undefined && nowMs - kept.askedMs >= ageMs) {
          kept.askedMs = nowMs;
          kept.asking = this.#askOne(member, kept).finally(() => {
            kept.asking = undefined;
          });
        }
        await kept.asking;
      }),
    );
  }

  /**
   * Asks once more, also where a question is under way already: that one may have been asked long before now. Those who were
   * silent before, and are asked all the time, are waited for only shortly: a lost region shouldn't cost its time-outs again.
   */
  async askAnew(members: readonly AskedMember[]): Promise<void> {
    const isSilent = (member: AskedMember): boolean => this.#kept.get(keyOf(member))?.answered === undefined;
    const silent = members.filter(isSilent);
    const others = members.filter((member) => !isSilent(member));
    const asked = this.ask(others, Number.POSITIVE_INFINITY).then(() => this.ask(others, 0));
    await Promise.all([
      asked,
      silent.length === 0 ? undefined : this.#options.pause(silentPatienceMs, this.ask(silent, 0)),
    ]);
  }

  /** Of all members of the record, and of others of the shard that answer: what those have promised matters, too. */
  pings(record: AuthorityRecord, { namespace = '', name, uid }: WatchedShard): Pings {
    const pings = new Map<string, Ping>();
    for (const [key, kept] of this.#kept) {
      const { answered } = kept;
      if (kept.shard !== name || !key.startsWith(`${namespace}/`) || answered?.answer.shardUid !== uid) continue;
      pings.set(replicationName(answered.answer.member), { kind: 'Answered', ...answered });
    }
    for (const member of record.membership.members)
      pings.set(replicationName(member), pingOf(this.#kept.get(`${namespace}/${member.name}`), this.#options.nowMs()));
    return pings;
  }

  /** How many members don't answer now. */
  get silent(): number {
    return [...this.#kept.values()].filter(({ answered }) => answered === undefined).length;
  }

  /** Names of members of this namespace that don't answer now. */
  silentNames(namespace: string): ReadonlySet<string> {
    const prefix = `${namespace}/`;
    const silent = [...this.#kept].filter(([key, { answered }]) => answered === undefined && key.startsWith(prefix));
    return new Set(silent.map(([key]) => key.slice(prefix.length)));
  }

  /** Forgets all but these. */
  keepOnly(members: readonly AskedMember[]): void {
    const keys = new Set(members.map(keyOf));
    for (const key of this.#kept.keys()) if (!keys.has(key)) this.#kept.delete(key);
  }

  async #askOne(member: AskedMember, kept: Kept): Promise<void> {
    const { ask, nowMs, timeoutMs } = this.#options;
    const askedMs = kept.askedMs;
    const reply = await this.#replyOf(ask, member);
    const atMs = nowMs();
    // Twice the time covers a busy moment of this process.
    const isLate = atMs - askedMs > 2 * timeoutMs;
    if (reply.kind === 'answer' && !isLate) {
      kept.answered = { answer: reply.answer, atMs };
      kept.lastWordMs = atMs;
      kept.silence = '';
      return;
    }
    kept.answered = undefined;
    kept.silence = reply.kind === 'silent' ? reply.why : 'its answer came too late';
  }

  async #replyOf(ask: AuthorityWatchOptions['ask'], member: AskedMember): Promise<AuthorityReply> {
    if (member.address === undefined) return { kind: 'silent', why: 'its pod has no address' };
    try {
      return await ask(member);
    } catch (error) {
      return { kind: 'silent', why: error instanceof Error ? error.message : String(error) };
    }
  }

  #of(member: AskedMember, nowMs: number): Kept {
    const present = this.#kept.get(keyOf(member));
    if (present?.address === member.address && present !== undefined) return present;
    // Another pod under the name: what the former one said is nothing that this one says, but its silence goes on.
    const kept: Kept = {
      shard: member.shard,
      address: member.address,
      lastWordMs: present?.lastWordMs ?? nowMs,
      answered: undefined,
      silence: 'it was not asked yet',
      asking: undefined,
      // Spread a little, so that not all are asked at once for ever after.
      askedMs: nowMs - Math.random() * 500,
    };
    this.#kept.set(keyOf(member), kept);
    return kept;
  }
}

const keyOf = ({ namespace, name }: AskedMember): string => `${namespace}/${name}`;

function pingOf(kept: Kept | undefined, nowMs: number): Ping {
  if (kept === undefined) return { kind: 'Silent', sinceMs: nowMs };
  if (kept.answered !== undefined) return { kind: 'Answered', ...kept.answered };
  return { kind: 'Silent', sinceMs: kept.lastWordMs };
}
