/**
 * Agents for the router's tests: each answers `POST /v1/authority` over mutual TLS with the member's own certificate, as the map says,
 * unless a test says otherwise; it waits with its answer where it is asked to, and keeps what routers say of themselves.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { MemberIdentity } from '#core/identity.ts';
import { formatLsn, type Lsn, parseLsn } from '#core/lsn.ts';
import {
  type AuthorityAnswer,
  type AuthorityQuestion,
  authorityQuestionSchema,
  type RouterWord,
} from '#core/protocol/authority.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import type { MapFile } from '#router/map/file-source.ts';

export const incarnation = '00000000000000aa';

export class TestAgent {
  readonly member: string;
  readonly shard: string;
  readonly words: RouterWord[] = [];
  /** Looks at the member's Postgres; where a test gives none, nothing is said of positions. */
  look: (() => Promise<Omit<NonNullable<AuthorityAnswer['position']>, 'begunMs'> | undefined>) | undefined;
  /** LSNs up to which those who stream from it have flushed, as last looked at. */
  flushed: string[] = [];
  /** Each follower stands for so many. */
  copies = 1;
  /** False: followers flush, and no commit is let go by it. */
  isAcknowledging = true;
  #durableLsn: Lsn | undefined;
  /** Followers of its shard: all count. */
  peers: MemberIdentity[] = [];
  #said: Partial<AuthorityAnswer> = {};
  #version = 1;
  #isFrozen = false;
  readonly #waiting = new Set<() => void>();
  readonly #server: Server;

  private constructor(member: string, shard: string, server: Server) {
    this.member = member;
    this.shard = shard;
    this.#server = server;
  }

  static async start(member: string, shard: string, own: KeyPairPem, ca: string): Promise<TestAgent> {
    const server = createServer({
      cert: own.certificate,
      key: own.privateKey,
      ca,
      requestCert: true,
      rejectUnauthorized: true,
    });
    const agent = new TestAgent(member, shard, server);
    // Whoever asked may be gone before all of the question was here.
    server.on('request', (request, response) => void agent.#serve(request, response).catch(() => response.destroy()));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return agent;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on; whoever waits is told. */
  say(said: Partial<AuthorityAnswer>): void {
    this.#said = { ...this.#said, ...said };
    this.#version += 1;
    for (const wake of this.#waiting) wake();
  }

  /** As a primary that is open, or a follower, at this epoch. */
  follow(epoch: number, primary: string | undefined): void {
    const isPrimary = primary === this.member;
    this.say({
      state: isPrimary ? 'open' : 'following',
      known: primary === undefined ? undefined : { epoch, member: { name: primary, incarnation } },
      primary: isPrimary
        ? { epoch, timeline: epoch, serving: true, leaseRemainingMs: 2_800, leaseNumber: 1, released: false }
        : undefined,
      keepers: isPrimary ? { acknowledgements: 1, members: this.peers } : undefined,
    });
  }

  /** What it says of itself as primary is another from now on. */
  sayAsPrimary(change: Partial<NonNullable<AuthorityAnswer['primary']>>): void {
    const before = this.#said.primary;
    if (before === undefined) throw new Error(`${this.member} is no primary`);
    this.say({ primary: { ...before, ...change } });
  }

  /** Answers nothing until it thaws, then what it is to say by then. */
  freeze(): void {
    this.#isFrozen = true;
  }

  thaw(): void {
    this.#isFrozen = false;
    for (const wake of this.#waiting) wake();
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const receivedAt = performance.now();
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    if (`${request.method} ${request.url}` !== 'POST /v1/authority') return void response.writeHead(404).end();
    const question = authorityQuestionSchema.parse(JSON.parse(Buffer.concat(chunks).toString()));
    if (question.router !== undefined) this.words.push(question.router);
    while (this.#isFrozen) await this.#changed();
    if (question.after === this.#version) await this.#changed(question);
    const begunAt = performance.now();
    const seen = question.router === undefined ? undefined : await this.look?.().catch(() => undefined);
    const begunMs = Math.floor(begunAt - receivedAt) - 1;
    while (this.#isFrozen) await this.#changed();
    const said = this.#answer();
    const answer = {
      ...said,
      ...(seen === undefined ? {} : { position: { begunMs, ...seen }, ...this.#durable(said, seen.lsn) }),
    };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  }

  /** What so many have flushed as have to; where nobody has to, what it has itself. */
  #durable({ keepers, primary }: AuthorityAnswer, own: string): Pick<AuthorityAnswer, 'acknowledged'> {
    if (keepers === undefined || primary === undefined) return {};
    if (keepers.acknowledgements === 0) return { acknowledged: { epoch: primary.epoch, lsn: own } };
    const furthest = this.flushed
      .flatMap((text) => Array.from({ length: this.copies }, () => parseLsn(text)))
      .toSorted((a, b) => (a < b ? 1 : -1));
    if (this.isAcknowledging) this.#durableLsn = furthest[keepers.acknowledgements - 1];
    const lsn = this.#durableLsn;
    return lsn === undefined ? {} : { acknowledged: { epoch: primary.epoch, lsn: formatLsn(lsn) } };
  }

  async #changed(question?: AuthorityQuestion): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = question === undefined ? undefined : setTimeout(() => wake(), question.waitMs ?? 0);
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      this.#waiting.add(wake);
    });
  }

  #answer(): AuthorityAnswer {
    return {
      member: { name: this.member, incarnation },
      shardUid: this.shard,
      region: 'eu',
      version: this.#version,
      state: 'down',
      promise: { epoch: 1, grantee: '', generation: 1, ageMs: 1_000 },
      agentAgeMs: 10_000,
      ...this.#said,
    };
  }
}

/** Every agent says what the map says. */
export function followMap(agents: ReadonlyMap<string, TestAgent>, { shards }: MapFile): void {
  for (const agent of agents.values()) {
    const shard = shards.find(({ name }) => name === agent.shard);
    if (shard !== undefined) agent.follow(shard.epoch, shard.primary);
  }
}
