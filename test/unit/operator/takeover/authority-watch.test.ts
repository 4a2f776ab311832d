/** What members say, as it is asked and kept: silence, lateness, other pods under a name, one question at a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { answerOf, type Ping, silentForMs } from '#core/authority/suspicion.ts';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';
import type { AuthorityReply } from '#operator/agents/client.ts';
import { type AskedMember, AuthorityWatch } from '#operator/takeover/authority-watch.ts';
import { VirtualTime } from './virtual-time.ts';

const identity = { name: 'a-eu-0', incarnation: '0000000000000001' };
const member: AskedMember = {
  namespace: 'test',
  keyspace: 'shop',
  shard: 'a',
  name: identity.name,
  address: '10.0.0.1',
};
const record = { membership: { members: [identity] } } as unknown as AuthorityRecord;
const shard = { namespace: 'test', name: 'a', uid: 'shard-uid' };
const answer = { member: identity, shardUid: shard.uid, version: 1 } as AuthorityAnswer;

class Bench {
  readonly time = new VirtualTime();
  readonly asked: AskedMember[] = [];
  takesMs = 10;
  reply: AuthorityReply = { kind: 'answer', answer };
  readonly watch = new AuthorityWatch({
    ask: async (whom) => {
      this.asked.push(whom);
      await this.time.sleep(this.takesMs);
      return this.reply;
    },
    nowMs: () => this.time.nowMs,
    timeoutMs: 800,
    pause: (ms, sooner) => Promise.race([this.time.sleep(ms), sooner]).then(() => undefined),
  });

  async ask(whom: AskedMember = member): Promise<Ping | undefined> {
    void this.watch.ask([whom], 0);
    await this.time.run(5_000, () => false);
    return this.ping;
  }

  get ping(): Ping | undefined {
    return [...this.watch.pings(record, shard).values()][0];
  }
}

test('an answer counts from its receipt, silence from the last word', async () => {
  const bench = new Bench();
  assert.equal(bench.ping?.kind, 'Silent');
  void bench.watch.ask([member], 0);
  await bench.time.run(10);
  assert.deepEqual(bench.ping, { kind: 'Answered', answer, atMs: bench.time.nowMs });
  const heardMs = bench.time.nowMs;
  bench.reply = { kind: 'silent', why: 'no answer' };
  assert.deepEqual(await bench.ask(), { kind: 'Silent', sinceMs: heardMs });
  await bench.time.run(3_000);
  assert.deepEqual(await bench.ask(), { kind: 'Silent', sinceMs: heardMs }, 'it goes on');
});

test('an answer that took far longer than its time is none: this process may have stood still', async () => {
  const bench = new Bench();
  bench.takesMs = 2_000;
  assert.equal((await bench.ask())?.kind, 'Silent');
});

test('a pod without an address is silent, and not asked', async () => {
  const bench = new Bench();
  assert.equal((await bench.ask({ ...member, address: undefined }))?.kind, 'Silent');
  assert.equal(bench.asked.length, 0);
});

test('what the former pod said is nothing that the next one says; its silence goes on', async () => {
  const bench = new Bench();
  await bench.ask();
  const heard = bench.ping;
  assert.ok(heard?.kind === 'Answered');
  bench.reply = { kind: 'silent', why: 'no answer' };
  assert.deepEqual(await bench.ask({ ...member, address: '10.0.0.2' }), { kind: 'Silent', sinceMs: heard.atMs });
});

test('nobody is asked twice at once, nor sooner than is due', async () => {
  const bench = new Bench();
  void bench.watch.ask([member], 0);
  void bench.watch.ask([member], 0);
  await bench.time.run(50);
  void bench.watch.ask([member], 450);
  await bench.time.run(50);
  assert.equal(bench.asked.length, 1);
  await bench.time.run(400);
  void bench.watch.ask([member], 450);
  assert.equal(bench.asked.length, 2);
});

test('asking anew waits for an answer to a question of now, but not long for who was silent before', async () => {
  const bench = new Bench();
  await bench.ask();
  bench.takesMs = 100;
  void bench.watch.ask([member], 0);
  await bench.time.run(50);
  let isDone = false;
  void bench.watch.askAnew([member]).then(() => {
    isDone = true;
  });
  await bench.time.run(60);
  assert.equal(isDone, false, 'that was the answer to the former question');
  await bench.time.run(100);
  assert.equal(isDone, true);

  bench.reply = { kind: 'silent', why: 'no answer' };
  await bench.ask();
  bench.takesMs = 800;
  isDone = false;
  void bench.watch.askAnew([member]).then(() => {
    isDone = true;
  });
  await bench.time.run(450);
  assert.equal(isDone, true);
});

test('who is no member of the record is shown where it answers as one of this shard', async () => {
  const bench = new Bench();
  const other = { name: 'a-us-0', incarnation: '0000000000000009' };
  const names = (): string[] => [...bench.watch.pings(record, shard).keys()].toSorted();
  bench.reply = { kind: 'answer', answer: { ...answer, member: other } };
  await bench.ask({ ...member, name: other.name });
  assert.deepEqual(names(), ['a-eu-0/0000000000000001', 'a-us-0/0000000000000009']);
  bench.reply = { kind: 'answer', answer: { ...answer, member: other, shardUid: 'a former shard' } };
  await bench.ask({ ...member, name: other.name });
  assert.deepEqual(names(), ['a-eu-0/0000000000000001']);
});

test('another volume under the name of a member is no word of that member, who stays silent for ever', async () => {
  const bench = new Bench();
  await bench.ask();
  const anew = { name: identity.name, incarnation: '0000000000000002' };
  bench.reply = { kind: 'answer', answer: { ...answer, member: anew } };
  await bench.ask({ ...member, address: '10.0.0.2' });
  const pings = bench.watch.pings(record, shard);
  assert.equal(answerOf(pings, identity), undefined);
  assert.deepEqual(answerOf(pings, anew)?.answer.member, anew);
  assert.equal(silentForMs(pings, identity, bench.time.nowMs), Number.POSITIVE_INFINITY);
  assert.ok(silentForMs(pings, anew, bench.time.nowMs) < 5_000);
});

test('members of shards that are gone are forgotten', async () => {
  const bench = new Bench();
  await bench.ask();
  assert.equal(bench.watch.silent, 0);
  bench.watch.keepOnly([]);
  assert.equal(bench.ping?.kind, 'Silent');
});
