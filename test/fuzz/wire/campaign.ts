/**
 * Many bad clients and a few good ones at one router in this process, in front of real Postgres. Whatever the bad ones say: the router
 * neither crashes nor hangs nor calls anything an internal error, nobody gets a byte that isn't their own, nothing is left behind.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultTimes } from '#router/settings.ts';
import { queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, message } from '#router/wire/writer.ts';
import { below, type Random, seeded } from '#test/history/random.ts';
import { database, password, type RouterKeyspace, type TestRouter } from '#test/integration/router-keyspace.ts';
import { RawClient, sqlstateOf } from '#test/integration/router-raw-client.ts';
import { beforeLogin } from './before-login.ts';
import { conversationOf, piecesOf, trailer } from './conversation.ts';

export interface CampaignOptions {
  readonly seed: number;
  readonly count: number;
  /** Ends early, when it has run that long. */
  readonly mostMs?: number;
  readonly say?: (line: string) => void;
}

export interface CampaignResult {
  readonly conversations: number;
  readonly answered: number;
  readonly closed: number;
  readonly strangers: number;
  /** Answers of the good clients. */
  readonly undisturbed: number;
}

const badClients = 6;
const goodClients = 2;
const answerMs = 20_000;
const nonceForm = /nonce-[0-9a-f]{16}/g;

export class Campaign {
  readonly #router: TestRouter;
  readonly #keyspace: RouterKeyspace;
  readonly #options: CampaignOptions;
  readonly #nonces = new Map<string, string>();
  #next = 0;
  #isOver = false;
  #answered = 0;
  #closed = 0;
  #strangers = 0;
  #undisturbed = 0;

  private constructor(keyspace: RouterKeyspace, router: TestRouter, options: CampaignOptions) {
    this.#keyspace = keyspace;
    this.#router = router;
    this.#options = options;
  }

  /** @throws AssertionError naming seed and number of the conversation that broke something. */
  static async run(keyspace: RouterKeyspace, options: CampaignOptions): Promise<CampaignResult> {
    await keyspace.writeMap(keyspace.map({ poolSize: 3 }));
    const router = await keyspace.router('eu', {
      times: { ...defaultTimes, authenticationMs: 2_500, connectMs: 3_000 },
    });
    const campaign = new Campaign(keyspace, router, options);
    const deadline = performance.now() + (options.mostMs ?? Number.POSITIVE_INFINITY);
    const bad = Array.from({ length: badClients }, () => campaign.#misbehave(deadline));
    const good = Array.from({ length: goodClients }, (_, index) => campaign.#behave(index));
    const ended = Promise.all(bad).finally(() => {
      campaign.#isOver = true;
    });
    await Promise.all([ended, ...good]);
    await campaign.#expectNothingLeft();
    return {
      conversations: campaign.#answered + campaign.#closed,
      answered: campaign.#answered,
      closed: campaign.#closed,
      strangers: campaign.#strangers,
      undisturbed: campaign.#undisturbed,
    };
  }

  /** Tried again where the machine was too slow for it: the time for a log-in is short here, since strangers use it up. */
  async #login(): Promise<RawClient> {
    for (let attempt = 1; ; attempt++)
      try {
        const who = { user: 'acme_app', password, database };
        return await RawClient.login(this.#router.port, this.#keyspace.ca.bundle, who);
      } catch (error) {
        // The router's last word may be lost with a connection that is closed.
        if (attempt === 10 || !/no log-in in time|closed before R/.test(String(error))) throw error;
      }
  }

  /** Sixteen digits: a nonce that was damaged on its way is nobody's. */
  #nonceFor(owner: string, random: Random): string {
    const digits = Array.from({ length: 16 }, () => below(random, 16).toString(16)).join('');
    const nonce = `nonce-${digits}`;
    this.#nonces.set(nonce, owner);
    return nonce;
  }

  #expectOwn(bytes: Buffer, owner: string, where: string): void {
    for (const [nonce] of bytes.toString('latin1').matchAll(nonceForm)) {
      const whose = this.#nonces.get(nonce);
      assert.ok(whose === undefined || whose === owner, `${where}: ${owner} got what is ${whose}'s`);
    }
  }

  async #misbehave(deadline: number): Promise<void> {
    const { seed, count, say } = this.#options;
    let client: RawClient | undefined;
    while (performance.now() < deadline) {
      const number = this.#next++;
      if (number >= count) break;
      const where = `seed ${seed}, conversation ${number}`;
      const random = seeded(seed * 1_000_003 + number);
      if (number % 500 === 499) say?.(`${number + 1} of ${count}`);
      if (number % 5 === 4) await this.#knock(random, where);
      else {
        if (client === undefined || client.isClosed) client = await this.#login();
        client = await this.#talk(client, random, `client ${number}`, where);
      }
    }
    client?.end();
  }

  /** Somebody who never logs in. */
  async #knock(random: Random, where: string): Promise<void> {
    const isSecure = random() < 0.5;
    const bytes = beforeLogin(random);
    const client = isSecure
      ? await RawClient.tls(this.#router.port, this.#keyspace.ca.bundle)
      : RawClient.unframed(await RawClient.tcp(this.#router.port));
    await this.#send(client, random, bytes);
    if (random() < 0.8) client.socket.end();
    await client.closed(answerMs).catch(() => assert.fail(`${where}: a stranger is still there`));
    assert.ok(!client.messages.some(({ type }) => 'ZDK'.includes(type)), `${where}: ${client.types()} for a stranger`);
    for (const one of client.messages) if (one.type === 'E') this.#expectNoDefect(one.frame, where);
    this.#strangers += 1;
  }

  /** A client that has logged in and then says something odd. Gives it back if it may go on. */
  async #talk(client: RawClient, random: Random, owner: string, where: string): Promise<RawClient | undefined> {
    const nonce = this.#nonceFor(owner, random);
    const { bytes, isFramed } = conversationOf(random, nonce);
    const isHeardOut = isFramed && random() < 0.9;
    await this.#send(client, random, isHeardOut ? Buffer.concat([bytes, trailer(nonce)]) : bytes);
    if (!isHeardOut) {
      // It lied about a length, so the rest may be waited for, or it goes in the middle of its sentence.
      await sleep(below(random, 15));
      client.end();
      await client.closed();
      this.#check(client, owner, where);
      this.#closed += 1;
      this.#nonces.delete(nonce);
      return undefined;
    }
    const end = `end of ${nonce}`;
    const deadline = performance.now() + answerMs;
    const isDone = (): boolean => {
      const last = client.messages.findLastIndex(({ type, frame }) => type === 'D' && frame.includes(end));
      return last !== -1 && client.messages.slice(last).some(({ type }) => type === 'Z');
    };
    while (!client.isClosed && !isDone()) {
      assert.ok(performance.now() < deadline, `${where}: no answer, only ${client.types().slice(-60)}`);
      await sleep(1);
    }
    this.#check(client, owner, where);
    this.#nonces.delete(nonce);
    if (client.isClosed) this.#closed += 1;
    else this.#answered += 1;
    return client.isClosed ? undefined : client;
  }

  #check(client: RawClient, owner: string, where: string): void {
    for (const { type, frame } of client.messages.splice(0)) {
      this.#expectOwn(frame, owner, where);
      if (type === 'E') this.#expectNoDefect(frame, where);
    }
  }

  #expectNoDefect(frame: Buffer, where: string): void {
    const sqlstate = sqlstateOf({ type: 'E', frame });
    assert.notEqual(sqlstate, 'XX000', `${where}: ${frame.toString('latin1', 5)}`);
  }

  async #send(client: RawClient, random: Random, bytes: Buffer): Promise<void> {
    for (const piece of piecesOf(random, bytes)) {
      if (client.isClosed) return;
      if (piece.length > 0) client.send(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Does what clients do, and gets what it asked for, all the while. */
  async #behave(index: number): Promise<void> {
    const owner = `good client ${index}`;
    const random = seeded(this.#options.seed + index);
    const client = await this.#login();
    while (!this.#isOver) {
      const nonce = this.#nonceFor(owner, random);
      client.send(
        message(0x50, '', `select '${nonce}' from generate_series(1, 20)`, int16(0)),
        message(0x42, '', '', int16(0), int16(0), int16(0)),
        message(0x45, '', 0),
        syncMessage,
        queryMessage(`select '${nonce}'`),
      );
      const messages = [...(await client.until('Z', answerMs)), ...(await client.until('Z', answerMs))];
      const types = messages.map(({ type }) => type).join('');
      assert.equal(types, `12${'D'.repeat(20)}CZTDCZ`, `seed ${this.#options.seed}: ${owner}`);
      for (const { frame } of messages) this.#expectOwn(frame, owner, `seed ${this.#options.seed}`);
      this.#undisturbed += 2;
      this.#nonces.delete(nonce);
      await sleep(2);
    }
    client.end();
  }

  async #expectNothingLeft(): Promise<void> {
    const { worker } = this.#router;
    const deadline = performance.now() + 15_000;
    const left = (): string =>
      JSON.stringify({
        clients: worker.metrics.get('clients'),
        busy: worker.gauges['backends_busy'],
        waiting: worker.gauges['statements_waiting'],
      });
    while (left() !== '{"clients":0,"busy":0,"waiting":0}' && performance.now() < deadline) await sleep(20);
    assert.equal(left(), '{"clients":0,"busy":0,"waiting":0}', `seed ${this.#options.seed}`);
    const backends = await this.#keyspace.backends('one-eu-0');
    assert.ok(backends <= 3, `${backends} connections to Postgres, of 3 that may be (seed ${this.#options.seed})`);
    const client = await this.#login();
    client.send(queryMessage('select 1'));
    await client.until('Z');
    client.end();
  }
}
