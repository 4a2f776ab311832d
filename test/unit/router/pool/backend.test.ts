/** Answers are matched to what was sent however the stream is cut; what doesn't match closes the connection. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Backend, type BackendReceiver } from '#router/pool/backend.ts';
import {
  type Expectation,
  expectBind,
  expectExecute,
  expectQuery,
  expectSync,
  type OwnAnswer,
} from '#router/pool/expectation.ts';
import { transactionStatus } from '#router/wire/codes.ts';
import {
  bindComplete,
  commandComplete,
  errorResponse,
  parameterStatus,
  parseComplete,
  readyForQuery,
  textDataRow,
  textRowDescription,
} from '#router/wire/server-messages.ts';

class FakeSocket extends EventEmitter {
  writableNeedDrain = false;
  written: Buffer[] = [];
  isDestroyed = false;
  write(bytes: Buffer): boolean {
    this.written.push(bytes);
    return true;
  }
  end(): void {}
  destroySoon(): void {
    this.isDestroyed = true;
  }
  destroy(): void {
    this.isDestroyed = true;
  }
  pause(): void {}
  resume(): void {}
}

class Recorder implements BackendReceiver {
  bytes: Buffer[] = [];
  statuses: string[] = [];
  losses: { reason: string; partial: boolean }[] = [];
  forward(bytes: Buffer): void {
    this.bytes.push(Buffer.from(bytes));
  }
  observe(): boolean {
    return true;
  }
  ready(status: number): void {
    this.statuses.push(String.fromCharCode(status));
  }
  notified(): void {}
  chunkEnd(): void {}
  drained(): void {}
  lost(reason: string, partial: boolean): void {
    this.losses.push({ reason, partial });
  }
}

function backendWith(receiver: BackendReceiver): { backend: Backend; socket: FakeSocket } {
  const socket = new FakeSocket();
  const identity = {
    member: 'm',
    role: 'r',
    processId: 1,
    secret: 2,
    generation: 'g',
    primaryEpoch: 0,
    postmaster: 'p',
  };
  const backend = new Backend(socket as unknown as Socket, identity, new Map(), 0, () => undefined);
  backend.assign(receiver);
  return { backend, socket };
}

/** A conversation: what is expected, what the server says to it, and what of that is the client's. */
interface Step {
  readonly expect: (backend: Backend, answers: OwnAnswer[]) => void;
  readonly said: readonly Buffer[];
  readonly forClient: readonly Buffer[];
}

const idle = readyForQuery(transactionStatus.idle);
const row = (text: string): Buffer => textDataRow([text]);
const error = errorResponse({ severity: 'ERROR', sqlstate: '22012', message: 'division by zero' });

const queryStep = (texts: string[]): Step => {
  const said = [textRowDescription(['a']), ...texts.map(row), commandComplete('SELECT'), idle];
  return { expect: (backend) => backend.expect(expectQuery), said, forClient: said };
};
const ownStep = (text: string): Step => ({
  expect: (backend, answers) => void backend.ownQuery('select', (answer) => answers.push(answer)),
  said: [textRowDescription(['a']), row(text), parameterStatus('x', 'y'), commandComplete('SELECT'), idle],
  forClient: [],
});
const parse = (hidden: boolean): Expectation => ({ kind: 'parse', hidden, name: 'm1', statement: undefined });
const batchStep = (text: string, local: string): Step => {
  const localBytes = commandComplete(local);
  return {
    expect: (backend) => {
      for (const one of [parse(true), expectBind, expectExecute]) backend.expect(one);
      backend.expect({ kind: 'local', bytes: localBytes, statement: undefined });
      backend.expect(expectSync);
    },
    said: [parseComplete, bindComplete, row(text), commandComplete('SELECT 1'), idle],
    forClient: [bindComplete, row(text), commandComplete('SELECT 1'), localBytes, idle],
  };
};
const failingStep = (): Step => ({
  expect: (backend) => {
    for (const one of [parse(false), expectBind, expectExecute, parse(true), expectBind, expectSync])
      backend.expect(one);
  },
  said: [parseComplete, error, idle],
  forClient: [parseComplete, error, idle],
});

const step = fc.oneof(
  fc.array(fc.string({ maxLength: 20 }), { maxLength: 4 }).map(queryStep),
  fc.string({ maxLength: 20 }).map(ownStep),
  fc
    .tuple(fc.string({ maxLength: 20 }), fc.constantFrom('CLOSE', 'SET'))
    .map(([text, local]) => batchStep(text, local)),
  fc.constant(undefined).map(failingStep),
);

describe('Backend', () => {
  test('gives the client its answers, and nothing else, however the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 12 }), (steps, places) => {
        const recorder = new Recorder();
        const { backend, socket } = backendWith(recorder);
        const answers: OwnAnswer[] = [];
        for (const one of steps) one.expect(backend, answers);
        const stream = Buffer.concat(steps.flatMap((one) => one.said));
        const at = [...new Set(places.map((place) => place % (stream.length + 1)))].toSorted((a, b) => a - b);
        for (const [index, from] of [0, ...at].entries())
          socket.emit('data', stream.subarray(from, at[index] ?? stream.length));
        assert.deepEqual(
          Buffer.concat(recorder.bytes).toString('latin1'),
          Buffer.concat(steps.flatMap((one) => one.forClient)).toString('latin1'),
        );
        assert.equal(answers.length, steps.filter((one) => one.forClient.length === 0).length);
        assert.ok(backend.isClean);
        assert.deepEqual(recorder.losses, []);
      }),
    );
  });

  test('isn’t clean with an answer due, half a message held, a row under way, or a transaction open', () => {
    const { backend, socket } = backendWith(new Recorder());
    assert.ok(backend.isClean);
    backend.expect(expectQuery);
    assert.ok(!backend.isClean);
    socket.emit('data', readyForQuery(transactionStatus.open));
    assert.ok(!backend.isClean);
    backend.expect(expectQuery);
    socket.emit('data', idle);
    assert.ok(backend.isClean);
    socket.emit('data', parameterStatus('a', 'b').subarray(0, 7));
    assert.ok(!backend.isClean);
  });

  test('passes on a row before it is whole, and says so when it is cut off', () => {
    const recorder = new Recorder();
    const { backend, socket } = backendWith(recorder);
    backend.expect(expectQuery);
    const long = row('x'.repeat(1_000));
    socket.emit('data', long.subarray(0, 100));
    assert.equal(Buffer.concat(recorder.bytes).length, 100);
    socket.emit('close');
    assert.deepEqual(
      recorder.losses.map((loss) => loss.partial),
      [true],
    );
    assert.ok(backend.isClosed);
  });

  test('closes on an answer that nothing asked for', () => {
    for (const said of [
      idle,
      bindComplete,
      row('x'),
      Buffer.from([0x5a, 0, 0, 0, 2, 0]),
      Buffer.from('R\0\0\0\u0008\0\0\0\0'),
    ]) {
      const { backend, socket } = backendWith(new Recorder());
      socket.emit('data', said);
      assert.ok(backend.isClosed, said.toString('hex'));
      assert.ok(socket.isDestroyed);
    }
  });

  test('closes on answers in another order than what was sent', () => {
    const { backend, socket } = backendWith(new Recorder());
    for (const one of [expectBind, expectExecute, expectSync]) backend.expect(one);
    socket.emit('data', parseComplete);
    assert.ok(backend.isClosed);
  });

  test('forgets a statement whose making was skipped, so that it is made again', () => {
    const { backend, socket } = backendWith(new Recorder());
    backend.prepared.add('m1');
    backend.expect({ kind: 'parse', hidden: false, name: 'm1', statement: undefined });
    backend.expect(expectSync);
    socket.emit('data', Buffer.concat([error, idle]));
    assert.equal(backend.prepared.use('m1'), false);
    assert.ok(backend.isClean);
  });

  test('ignores what is sent after an error up to the Sync, as the server does', () => {
    const { backend, socket } = backendWith(new Recorder());
    backend.expect(expectBind);
    socket.emit('data', error);
    assert.ok(!backend.isClean);
    backend.expect(expectExecute);
    backend.expect(expectSync);
    socket.emit('data', idle);
    assert.ok(backend.isClean);
  });
});
