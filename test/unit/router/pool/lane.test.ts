/** Statements of several clients on one connection: whose answer is whose, whatever happens to one of them. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { AnswerLease, Backend } from '#router/pool/backend.ts';
import { expectQuery } from '#router/pool/expectation.ts';
import { Lane, Lanes } from '#router/pool/lane.ts';
import type { Pipe, Rider } from '#router/pool/pipe.ts';
import { PlanCost } from '#router/pool/plan-cost.ts';
import { Pool } from '#router/pool/pool.ts';
import { Tally } from '#router/pool/tally.ts';
import { queryMessage } from '#router/wire/client-messages.ts';
import { commandComplete, errorResponse, readyForQuery, textDataRow } from '#router/wire/server-messages.ts';

const idle = 'I'.charCodeAt(0);
const open = 'T'.charCodeAt(0);

/** A member's side of a connection, as bytes. */
class Member extends EventEmitter {
  readonly sent: Buffer[] = [];
  readonly writable = true;
  readonly writableNeedDrain = false;
  isDestroyed = false;
  isPaused = false;
  write(bytes: Buffer): boolean {
    this.sent.push(bytes);
    return true;
  }
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  end(): void {}
  destroy(): void {
    this.isDestroyed = true;
  }
  destroySoon(): void {
    this.isDestroyed = true;
  }
  answers(...bytes: Buffer[]): void {
    this.emit('data', Buffer.concat(bytes));
  }
  get texts(): string[] {
    return this.sent.map((bytes) => bytes.toString('latin1'));
  }
}

class Client implements Rider {
  readonly cost = new PlanCost();
  readonly needs: string = '';
  readonly pin: string | undefined;
  readonly needsLease: boolean;
  readonly sql: string;
  isGone = false;
  isSlow = false;
  isRevoked = false;
  mayGoTwice = true;
  pipe: Pipe | undefined;
  heard = '';
  readonly fates: string[] = [];
  onDone: () => void = () => undefined;

  constructor(sql: string, { pin, needsLease = false }: { pin?: string; needsLease?: boolean } = {}) {
    this.sql = sql;
    this.pin = pin;
    this.needsLease = needsLease;
  }
  bytes(backend: Backend): Buffer[] {
    backend.expect(expectQuery);
    return [queryMessage(this.sql)];
  }
  sent(pipe: Pipe): void {
    this.pipe = pipe;
  }
  calledAway(): void {
    this.fates.push('called away');
  }
  forward(bytes: Buffer): void {
    this.heard += bytes.toString('latin1').replaceAll(/[^\w:]+/g, ' ');
  }
  readonly isStale = false;
  failed(): boolean {
    this.fates.push('failed');
    return true;
  }
  flush(): boolean {
    return !this.isSlow;
  }
  done(): void {
    this.fates.push('done');
    this.onDone();
  }
  lost(_reason: string, partial: boolean): void {
    this.fates.push(partial ? 'lost in the middle' : 'lost');
  }
  turnedAway(): void {
    this.fates.push('turned away');
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A pool of so many connections, and one lane on it. */
async function laneOf(size = 1, lease?: AnswerLease) {
  const members: Member[] = [];
  const pool = new Pool({
    member: 'm',
    role: 'r',
    isPaused: false,
    tally: new Tally(),
    connect: async () => {
      const member = new Member();
      members.push(member);
      const socket = member as unknown as Socket;
      return { socket, processId: 1, secret: Buffer.alloc(4), parameters: new Map(), postmaster: '' } as never;
    },
    limits: () => ({ size, waitMs: 5_000, idleMs: 1e9, lifetimeMs: 1e9 }),
    generation: () => 'g',
    primaryEpoch: () => 1,
    reached: () => undefined,
    now: () => performance.now(),
  });
  let held = lease;
  const lanes = new Lanes(() => held);
  const lane = lanes.of(pool, '') as Lane;
  return {
    pool,
    lane,
    members,
    lose: () => {
      held = undefined;
    },
    submit: async (...clients: Client[]) => {
      for (const client of clients) lane.submit(client);
      await turn();
      await turn();
    },
  };
}

const row = (text: string): Buffer =>
  Buffer.concat([textDataRow([text]), commandComplete('SELECT 1'), readyForQuery(idle)]);
const failure = (text: string): Buffer =>
  Buffer.concat([errorResponse({ severity: 'ERROR', sqlstate: '22012', message: text }), readyForQuery(idle)]);

describe('statements that share a connection', () => {
  test('go out in one write, and each hears its own answer', async () => {
    const { members, submit, pool } = await laneOf();
    const [a, b, c] = [new Client('a'), new Client('b'), new Client('c')];
    await submit(a, b, c);
    assert.equal(members.length, 1);
    assert.equal(members[0]?.sent.length, 1);
    members[0]?.answers(row('of:a'), row('of:b'), row('of:c'));
    for (const [client, name] of [
      [a, 'a'],
      [b, 'b'],
      [c, 'c'],
    ] as const) {
      assert.match(client.heard, new RegExp(`of:${name}`));
      assert.equal(client.heard.match(/of:/g)?.length, 1);
      assert.deepEqual(client.fates, ['done']);
    }
    assert.equal(pool.counts.idle, 1);
  });

  test('however answers are cut into pieces', async () => {
    const answers = Buffer.concat([row('of:a'), failure('of:b'), row('of:c')]);
    for (let size = 1; size < 40; size += 3) {
      const { members, submit } = await laneOf();
      const clients = ['a', 'b', 'c'].map((name) => new Client(name));
      await submit(...clients);
      for (let at = 0; at < answers.length; at += size) members[0]?.answers(answers.subarray(at, at + size));
      assert.deepEqual(
        clients.map(({ heard }) => /of:\w/.exec(heard)?.[0]),
        ['of:a', 'of:b', 'of:c'],
      );
      assert.deepEqual(clients[1]?.fates, ['failed', 'done']);
    }
  });

  test('do not suffer from the error of one', async () => {
    const { members, submit } = await laneOf();
    const [a, b] = [new Client('a'), new Client('b')];
    await submit(a, b);
    members[0]?.answers(failure('of:a'), row('of:b'));
    assert.deepEqual([a.fates, b.fates], [['failed', 'done'], ['done']]);
  });

  test('are all told when the connection is lost, and only the one at the head has half an answer', async () => {
    const { members, submit } = await laneOf();
    const [a, b] = [new Client('a'), new Client('b')];
    await submit(a, b);
    members[0]?.answers(row('of:a').subarray(0, 8));
    members[0]?.emit('close');
    assert.deepEqual([a.fates, b.fates], [['lost in the middle'], ['lost']]);
    assert.doesNotMatch(b.heard, /of/);
  });

  test('never get what came behind an answer that left a transaction open', async () => {
    const { members, submit } = await laneOf();
    const [a, b] = [new Client('a'), new Client('b')];
    await submit(a, b);
    members[0]?.answers(commandComplete('BEGIN'), readyForQuery(open), row('of:b'));
    assert.deepEqual(b.fates, ['lost']);
    assert.equal(b.heard, '');
    assert.ok(members[0]?.isDestroyed);
  });

  test('of a client that is gone are answered to nobody, and the next hears its own', async () => {
    const { members, submit } = await laneOf();
    const [a, b] = [new Client('a'), new Client('b')];
    await submit(a, b);
    a.isGone = true;
    members[0]?.answers(row('of:a'), row('of:b'));
    assert.match(b.heard, /of:b/);
    assert.doesNotMatch(b.heard, /of:a/);
  });

  test('of a client that went in the middle of its answer give the connection back', async () => {
    const { members, submit, pool } = await laneOf();
    const slow = new Client('a');
    await submit(slow);
    slow.isSlow = true;
    const answer = row('of:a');
    members[0]?.answers(answer.subarray(0, 8));
    assert.ok(members[0]?.isPaused);
    slow.isGone = true;
    const deadline = performance.now() + 60_000;
    while (members[0].isPaused) {
      assert.ok(performance.now() < deadline, 'the member is not read any more');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    members[0].answers(answer.subarray(8));
    assert.equal(pool.counts.idle, 1);
  });

  test('may be followed by the next of the same client from within its answer', async () => {
    const { members, submit, lane } = await laneOf();
    const [a, b] = [new Client('a'), new Client('b')];
    const again = new Client('again');
    a.onDone = () => lane.submit(again);
    await submit(a, b);
    members[0]?.answers(row('of:a'), row('of:b'));
    await turn();
    members[0]?.answers(row('of:again'));
    assert.match(b.heard, /of:b/);
    assert.match(again.heard, /of:again/);
  });
});

const until = async (what: () => boolean): Promise<void> => {
  const deadline = performance.now() + 60_000;
  while (!what()) {
    assert.ok(performance.now() < deadline, 'it never came about');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};

describe('those behind a statement that takes long', () => {
  const held = async (count: number) => {
    const lab = await laneOf(2);
    const slow = new Client('slow');
    const others = Array.from({ length: count }, (_, index) => new Client(`other${index}`));
    await lab.submit(slow, ...others);
    return { ...lab, slow, others };
  };
  const answersOf = (clients: readonly Client[]): Buffer[] => clients.map(({ sql }) => row(`of:${sql}`));
  const heardOf = (client: Client): string[] => client.heard.match(/of:[a-z0-9]+/g) ?? [];

  test('are run elsewhere, and hear one answer each', async () => {
    const { members, slow, others, pool } = await held(3);
    await until(() => members.length === 2 && members[1]?.sent.length === 1);
    members[1]?.answers(...answersOf(others));
    assert.deepEqual(others.flatMap(heardOf), ['of:other0', 'of:other1', 'of:other2']);
    assert.deepEqual(slow.fates, []);
    members[0]?.answers(...answersOf([slow, ...others]));
    assert.deepEqual([slow, ...others].flatMap(heardOf), ['of:slow', 'of:other0', 'of:other1', 'of:other2']);
    for (const other of others) assert.deepEqual(other.fates, ['called away', 'done']);
    assert.equal(pool.counts.idle, 2);
  });

  test('hear nothing of what becomes of them where they were: an error, another answer in its middle, the loss of the connection', async () => {
    const { members, submit, slow, others } = await held(3);
    await until(() => members[1]?.sent.length === 1);
    members[0]?.answers(row('of:slow'), failure('of:other0'), row('of:other1').subarray(0, 9));
    assert.deepEqual(slow.fates, ['done']);
    assert.deepEqual(others.flatMap(heardOf), []);
    members[0]?.emit('close');
    members[1]?.answers(...answersOf(others));
    for (const other of others) assert.deepEqual(other.fates, ['called away', 'done']);
    const [first] = others;
    assert.ok(first !== undefined);
    await submit(first);
    members[1]?.answers(row('of:again'));
    assert.deepEqual(heardOf(first), ['of:other0', 'of:again']);
  });

  test('stay where they make what others rely on, and go nowhere once their role has come to act for others', async () => {
    const lab = await laneOf(2);
    const [slow, making, revoked, other] = ['slow', 'making', 'revoked', 'other'].map((name) => new Client(name)) as [
      Client,
      Client,
      Client,
      Client,
    ];
    making.mayGoTwice = false;
    await lab.submit(slow, making, revoked, other);
    revoked.isRevoked = true;
    await until(() => lab.members[1]?.sent.length === 1);
    assert.deepEqual(making.fates, []);
    assert.deepEqual(revoked.fates, ['called away', 'turned away']);
    assert.deepEqual(other.fates, ['called away']);
    lab.members[0]?.answers(...answersOf([slow, making, revoked, other]));
    assert.deepEqual([slow, making, revoked, other].flatMap(heardOf), ['of:slow', 'of:making']);
  });

  test('are not all of them run again, however many they are', async () => {
    const { members, others } = await held(300);
    await until(() => members[1]?.sent.length === 1);
    const count = (): number => others.filter(({ fates }) => fates.includes('called away')).length;
    await until(() => count() > 10);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const called = count();
    assert.ok(called <= 64, `${called} of 300`);
  });

  test('stay where there is nowhere else', async () => {
    const { members, submit } = await laneOf(1);
    const [a, b] = [new Client('a'), new Client('b')];
    await submit(a, b);
    await new Promise((resolve) => setTimeout(resolve, 30));
    members[0]?.answers(row('of:a'), row('of:b'));
    assert.deepEqual([a.fates, b.fates], [['done'], ['done']]);
  });
});

describe('the tenant that a connection is pinned to', () => {
  test('is set ahead of a statement of another, and not again for the same', async () => {
    const { members, submit } = await laneOf();
    await submit(
      new Client('for a', { pin: 'acme' }),
      new Client('for b', { pin: 'acme' }),
      new Client('for c', { pin: 'bolt' }),
    );
    const text = members[0]?.texts.join('') ?? '';
    assert.deepEqual(text.match(/SET meridian.tenant = '\w+'|for \w/g), [
      "SET meridian.tenant = 'acme'",
      'for a',
      'for b',
      "SET meridian.tenant = 'bolt'",
      'for c',
    ]);
  });

  test('could not be set: nobody hears what ran behind it', async () => {
    const { members, submit } = await laneOf();
    const [a, b] = [new Client('a', { pin: 'acme' }), new Client('b', { pin: 'bolt' })];
    await submit(a, b);
    const set = Buffer.concat([commandComplete('SET'), readyForQuery(idle)]);
    members[0]?.answers(set, row('of:a'), failure('no setting'), row('of:somebody'));
    assert.deepEqual(a.fates, ['done']);
    assert.deepEqual(b.fates, ['lost']);
    assert.equal(b.heard, '');
    assert.ok(members[0]?.isDestroyed);
  });
});

describe('a lane', () => {
  test('lets its connection go when somebody waits for one of their own', async () => {
    const { members, submit, pool, lane } = await laneOf(1);
    const [a, b] = [new Client('a'), new Client('b')];
    await submit(a);
    let lent: Backend | undefined;
    pool.take({
      give: (backend) => {
        lent = backend;
      },
      fail: (error) => assert.fail(error.message),
    });
    lane.submit(b);
    await turn();
    members[0]?.answers(row('of:a'));
    assert.ok(lent !== undefined);
    assert.deepEqual(b.fates, []);
    pool.giveBack(lent);
    await turn();
    members[0]?.answers(row('of:b'));
    assert.deepEqual(b.fates, ['done']);
  });

  test('takes back what waits, and nothing that was sent', async () => {
    const { submit, pool, lane } = await laneOf(1);
    const taken = new Client('a');
    await submit(taken);
    pool.take({ give: () => undefined, fail: () => undefined });
    const waiting = new Client('b');
    lane.submit(waiting);
    assert.ok(lane.withdraw(waiting));
    assert.ok(!lane.withdraw(taken));
  });

  test('sends nothing on a new connection for whom its role has come to act for others', async () => {
    const { submit, pool, lane, members } = await laneOf(1);
    let lent: Backend | undefined;
    pool.take({
      give: (backend) => {
        lent = backend;
      },
      fail: (error) => assert.fail(error.message),
    });
    await turn();
    const [a, b] = [new Client('a'), new Client('b')];
    lane.submit(a);
    lane.submit(b);
    a.isRevoked = true;
    pool.giveBack(lent as unknown as Backend);
    await turn();
    assert.deepEqual(a.fates, ['turned away']);
    members[0]?.answers(row('of:b'));
    assert.deepEqual([a.heard, b.fates], ['', ['done']]);
    await submit();
  });

  test('sends nothing that needs a lease once there is none', async () => {
    const held: AnswerLease = { isHeld: true, prove: () => undefined };
    const { submit, pool, lane, lose, members } = await laneOf(1, held);
    await submit(new Client('a', { needsLease: true }));
    let lent: Backend | undefined;
    pool.take({
      give: (backend) => {
        lent = backend;
      },
      fail: () => undefined,
    });
    const late = new Client('late', { needsLease: true });
    lane.submit(late);
    lose();
    members[0]?.answers(row('of:a'));
    pool.giveBack(lent as unknown as Backend);
    await turn();
    assert.deepEqual(late.fates, ['turned away']);
  });

  test('delivers nothing that was read when its lease did not surely hold', async () => {
    let settle: ((isHeld: boolean) => void) | undefined;
    const lease = {
      isHeld: true,
      prove: (done: (isHeld: boolean) => void) => {
        settle = done;
      },
    };
    const { submit, members } = await laneOf(1, lease);
    const [a, b] = [new Client('a', { needsLease: true }), new Client('b', { needsLease: true })];
    await submit(a, b);
    lease.isHeld = false;
    members[0]?.answers(row('of:a'), row('of:b'));
    assert.deepEqual([a.heard, b.heard], ['', '']);
    settle?.(false);
    assert.deepEqual([a.fates, b.fates], [['lost'], ['lost']]);
  });
});
