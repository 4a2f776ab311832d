/** What clients say is read exactly, and a message that lies about its fields is a violation, never a read beyond it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  describeStatement,
  parseMessage,
  queryMessage,
  readBind,
  readExecute,
  readParse,
  readQuery,
  readTarget,
  renameBind,
} from '#router/wire/client-messages.ts';
import { ProtocolViolation } from '#router/wire/protocol-violation.ts';
import { int16, int32, message } from '#router/wire/writer.ts';

const name = fc.string({ maxLength: 20 }).filter((text) => !text.includes('\0'));
const value = fc.option(
  fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
  { nil: null },
);

const bindFrame = (portal: string, statement: string, formats: number[], values: (Buffer | null)[]): Buffer =>
  message(
    0x42,
    portal,
    statement,
    int16(formats.length),
    ...formats.map(int16),
    int16(values.length),
    ...values.flatMap((one) => (one === null ? [int32(-1)] : [int32(one.length), one])),
    int16(1),
    int16(1),
  );

describe('Parse', () => {
  test('golden bytes', () => {
    const frame = Buffer.from('50000000167331002453454c454354202431000001000000170a'.slice(0, -2), 'hex');
    frame.writeUInt32BE(frame.length - 1, 1);
    const { name: statement, sql } = readParse(frame);
    assert.deepEqual({ statement, sql }, { statement: 's1', sql: '$SELECT $1' });
  });

  test('keeps the body for another name', () => {
    fc.assert(
      fc.property(name, name, name, (first, second, sql) => {
        const frame = message(0x50, first, sql, int16(1), int32(25));
        const { body } = readParse(frame);
        assert.deepEqual(parseMessage(second, body), message(0x50, second, sql, int16(1), int32(25)));
      }),
    );
  });
});

describe('Bind', () => {
  test('gives every parameter with its format, and can be renamed without touching the rest', () => {
    fc.assert(
      fc.property(
        name,
        name,
        name,
        fc.array(value, { maxLength: 6 }),
        fc.constantFrom(0, 1),
        (portal, statement, other, values, format) => {
          const frame = bindFrame(portal, statement, [format], values);
          const bind = readBind(frame);
          assert.equal(bind.portal, portal);
          assert.equal(bind.statement, statement);
          for (const [index, expected] of values.entries())
            assert.deepEqual(bind.parameter(index + 1), { format, value: expected });
          assert.equal(bind.parameter(values.length + 1), undefined);
          assert.deepEqual(renameBind(frame, bind, other), bindFrame(portal, other, [format], values));
        },
      ),
    );
  });

  test('refuses a field length below -1, one beyond the message, and formats that do not fit', () => {
    const wrong = [
      message(0x42, '', '', int16(0), int16(1), int32(-2), int16(0)),
      message(0x42, '', '', int16(0), int16(1), int32(-0x80000000), int16(0)),
      message(0x42, '', '', int16(0), int16(1), int32(50), int16(0)),
      message(0x42, '', '', int16(0), int16(60_000), int16(0)),
      message(0x42, '', '', int16(2), int16(0), int16(0), int16(1), int32(-1), int16(0)),
      message(0x42, '', Buffer.from('unterminated')),
      message(0x42, '', '', int16(0), int16(0), int16(0), Buffer.from([1])),
    ];
    for (const frame of wrong) assert.throws(() => readBind(frame), ProtocolViolation, frame.toString('hex'));
  });
});

test('any bytes at all are either read or a violation, in every message', () => {
  const readers = [readParse, readBind, readTarget, readExecute, readQuery];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const read of readers) {
        try {
          read(message(0x42, Buffer.from(bytes)));
        } catch (error) {
          assert.ok(error instanceof ProtocolViolation, String(error));
        }
      }
    }),
    { numRuns: 500 },
  );
});

test('Query, Describe, Close and Execute', () => {
  assert.equal(readQuery(queryMessage('select ä')), 'select ä');
  assert.deepEqual(readTarget(describeStatement('s')), { target: 'statement', name: 's' });
  assert.deepEqual(readTarget(message(0x43, Buffer.from('P'), 'p')), { target: 'portal', name: 'p' });
  assert.throws(() => readTarget(message(0x43, Buffer.from('X'), 'p')), ProtocolViolation);
  assert.deepEqual(readExecute(message(0x45, 'p', 7)), { portal: 'p', maxRows: 7 });
});
