/** Rows of COPY data: whatever is written can be read again, however it is cut into pieces. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LineRows } from '#router/session/copy-in/lines.ts';
import { readCopyOptions } from '#router/session/copy-in/options.ts';
import { BinaryRows, type CopyRow, type RowReader } from '#router/session/copy-in/rows.ts';

const columns = ['a', 'b', 'c'];

function read(reader: RowReader, data: Buffer, cuts: readonly number[]): (string | null)[][] {
  const rows: (string | null)[][] = [];
  const take = ({ values }: CopyRow): void => {
    rows.push(values.map((value) => value?.toString('utf8') ?? null));
  };
  let start = 0;
  for (const cut of [...cuts.map((one) => one % (data.length + 1)).toSorted((a, b) => a - b), data.length]) {
    reader.push(data.subarray(start, cut), take);
    start = cut;
  }
  reader.end(take);
  return rows;
}

const value = fc.option(
  fc.oneof(
    fc.string({ maxLength: 8 }),
    fc.constantFrom('\\N', '\\.', '', '\\', '"', '""', 'a,b', 'a\tb', 'a\nb', '\r', '\r\n', "it's", '\\\\N'),
  ),
  { nil: null },
);
const table = fc.array(fc.tuple(value, value, value), { maxLength: 8 });
const cuts = fc.array(fc.nat(), { maxLength: 6 });

describe('what is written is read', () => {
  test('in text', () => {
    const escaped = (text: string | null): string =>
      text === null
        ? '\\N'
        : text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r').replaceAll('\t', '\\t');
    const options = readCopyOptions({ table: 't', options: {}, hasCondition: false });
    fc.assert(
      fc.property(table, cuts, (rows, at) => {
        const data = Buffer.from(rows.map((row) => `${row.map(escaped).join('\t')}\n`).join(''));
        assert.deepEqual(read(new LineRows(options, columns), data, at), rows);
      }),
    );
  });

  test('in csv, with quotes of its own or another escape', () => {
    for (const [quote, escape] of [
      ['"', '"'],
      ["'", "'"],
      ['"', '\\'],
    ] as const) {
      const quoted = (text: string | null): string =>
        text === null
          ? ''
          : `${quote}${text.replaceAll(/["'\\]/g, (one) => (one === quote || one === escape ? escape + one : one))}${quote}`;
      const options = readCopyOptions({ table: 't', options: { format: 'csv', quote, escape }, hasCondition: false });
      fc.assert(
        fc.property(table, cuts, (rows, at) => {
          const data = Buffer.from(rows.map((row) => `${row.map(quoted).join(',')}\n`).join(''));
          assert.deepEqual(read(new LineRows(options, columns), data, at), rows);
        }),
      );
    }
  });

  test('in binary, with the trailer and without', () => {
    const int16 = (number: number): Buffer => Buffer.from([(number >> 8) & 0xff, number & 0xff]);
    const int32 = (number: number): Buffer => Buffer.concat([int16(number >> 16), int16(number)]);
    const field = (text: string | null): Buffer =>
      text === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(text)), Buffer.from(text)]);
    const head = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), int32(0), int32(0)]);
    fc.assert(
      fc.property(table, cuts, fc.constantFrom([int16(-1)], []), (rows, at, trailer) => {
        const data = Buffer.concat([head, ...rows.flatMap((row) => [int16(3), ...row.map(field)]), ...trailer]);
        assert.deepEqual(read(new BinaryRows(columns), data, at), rows);
      }),
    );
    const row = Buffer.concat([int16(3), ...['a', 'b', 'c'].map(field)]);
    for (const cut of [0, head.length - 1, head.length + 2, head.length + row.length - 1])
      assert.throws(() => read(new BinaryRows(columns), Buffer.concat([head, row]).subarray(0, cut), []), {
        sqlstate: '22P04',
      });
  });
});

test('any bytes at all are read or refused, and never leave the reader hanging', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 60 }),
      cuts,
      fc.constantFrom('text', 'csv', 'binary'),
      (bytes, at, format) => {
        const options = readCopyOptions({ table: 't', options: { format }, hasCondition: false });
        const reader = format === 'binary' ? new BinaryRows(columns) : new LineRows(options, columns);
        try {
          for (const row of read(reader, Buffer.from(bytes), at)) assert.equal(row.length, 3);
        } catch (error) {
          assert.equal((error as Error).name, 'CopyDataError', String(error));
        }
      },
    ),
    { numRuns: 1_000 },
  );
});

test('a line is counted with the line ends within its quotes', () => {
  const options = readCopyOptions({ table: 't', options: { format: 'csv', header: '' }, hasCondition: false });
  const lines: number[] = [];
  const reader = new LineRows(options, ['a']);
  reader.push(Buffer.from('a\n"1\n2"\n"3"\n"4\n5\n6"\n'), ({ line }) => lines.push(line));
  assert.deepEqual(lines, [3, 4, 7]);
});

test('options that only COPY itself can keep are refused', () => {
  for (const options of [
    { default: 'x' },
    { freeze: '' },
    { on_error: 'ignore' },
    { encoding: 'latin1' },
    { delimiter: 'ab' },
  ])
    assert.throws(() => readCopyOptions({ table: 't', options, hasCondition: false }), { sqlstate: '0A000' });
  assert.throws(() => readCopyOptions({ table: 't', options: {}, hasCondition: true }), { sqlstate: '0A000' });
  assert.throws(() => readCopyOptions({ table: 't', options: { format: 'xml' }, hasCondition: false }), {
    sqlstate: '22023',
  });
});

const noRow = (row: CopyRow): void => assert.fail(`a row of ${row.values.length} values`);

describe('a row that never ends', () => {
  test('is held in one piece, however small those are that it comes in, and given up when it is too long', () => {
    const options = readCopyOptions({ table: 't', options: {}, hasCondition: false });
    const header = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);
    const long = Buffer.alloc(64 * 1024, 'x');
    for (const reader of [new LineRows(options, columns), new BinaryRows(columns)]) {
      if (reader instanceof BinaryRows) reader.push(Buffer.concat([header, Buffer.from([0, 3, 0x3f, 0, 0, 0])]), noRow);
      for (let count = 0; count < 2_000; count++) reader.push(Buffer.from('x'), noRow);
      assert.throws(() => {
        for (let count = 0; count < 1_100; count++) reader.push(long, noRow);
      }, /a row of more than/);
    }
  });

  test('has no more values than a table may have columns', () => {
    const options = readCopyOptions({ table: 't', options: {}, hasCondition: false });
    const csv = readCopyOptions({ table: 't', options: { format: 'csv' }, hasCondition: false });
    for (const [reader, delimiter] of [
      [new LineRows(options, columns), '\t'],
      [new LineRows(csv, columns), ','],
    ] as const) {
      const before = process.memoryUsage().heapUsed;
      assert.throws(() => reader.push(Buffer.from(`${delimiter.repeat(4_000_000)}\n`), noRow), /extra data/);
      assert.ok(process.memoryUsage().heapUsed - before < 50_000_000);
    }
  });
});
