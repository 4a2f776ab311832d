import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CommandFilter } from '#agent/tunnel/command-filter.ts';

const slot = 'member_aaaaaaaaaaaaaaaa';

function message(type: string, body: string | Buffer): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const packet = Buffer.alloc(5 + bytes.length);
  packet.write(type, 0, 'latin1');
  packet.writeInt32BE(4 + bytes.length, 1);
  bytes.copy(packet, 5);
  return packet;
}
const query = (text: string): Buffer => message('Q', `${text}\0`);

/** What passes when the bytes come in pieces of these lengths; undefined when refused. */
function feed(purpose: 'stream' | 'basebackup', bytes: Buffer, pieces: readonly number[]): Buffer | undefined {
  const filter = new CommandFilter(purpose, slot);
  const passed: Buffer[] = [];
  let at = 0;
  for (const length of [...pieces, bytes.length]) {
    const result = filter.push(bytes.subarray(at, at + length));
    if (result.kind === 'refuse') return undefined;
    passed.push(Buffer.from(result.chunk));
    at += length;
    if (at >= bytes.length) break;
  }
  return Buffer.concat(passed);
}

const allowed: readonly [string, 'stream' | 'basebackup', string][] = [
  ['identifying the system', 'stream', 'IDENTIFY_SYSTEM'],
  ['the history of a timeline', 'stream', 'TIMELINE_HISTORY 2'],
  ['streaming from the own slot', 'stream', `START_REPLICATION SLOT "${slot}" 0/3000000 TIMELINE 1`],
  ['streaming in the spelling of pg_basebackup', 'basebackup', `START_REPLICATION SLOT "${slot}" 0/2000000 TIMELINE 1`],
  ['a setting', 'basebackup', 'SHOW wal_segment_size'],
  [
    'a base copy',
    'basebackup',
    "BASE_BACKUP ( LABEL 'pg_basebackup base backup',  PROGRESS,  CHECKPOINT 'fast',  WAIT 0,  MANIFEST 'yes',  TARGET 'client')",
  ],
  ['looking at the own slot', 'basebackup', `READ_REPLICATION_SLOT "${slot}"`],
];

const forbidden: readonly [string, 'stream' | 'basebackup', Buffer][] = [
  ['another slot', 'stream', query('START_REPLICATION SLOT "member_bbbbbbbbbbbbbbbb" 0/3000000 TIMELINE 1')],
  ['no slot', 'stream', query('START_REPLICATION 0/3000000 TIMELINE 1')],
  ['logical replication', 'stream', query(`START_REPLICATION SLOT "${slot}" LOGICAL 0/0`)],
  ['a second command behind the first', 'stream', query(`IDENTIFY_SYSTEM; DROP_REPLICATION_SLOT "${slot}"`)],
  ['making a slot', 'stream', query('CREATE_REPLICATION_SLOT "x" PHYSICAL')],
  ['dropping a slot', 'basebackup', query(`DROP_REPLICATION_SLOT "${slot}"`)],
  ['a base copy in a stream', 'stream', query("BASE_BACKUP ( LABEL 'x')")],
  ['SQL', 'stream', query('select 1')],
  ['a prepared statement', 'stream', message('P', 's\0select 1\0\0\0')],
  ['a password', 'stream', message('p', 'secret\0')],
  ['a length below its own four bytes', 'stream', Buffer.from('Q\0\0\0\x03', 'latin1')],
  ['an endless command', 'stream', query('x'.repeat(20_000))],
  ['a command without its end', 'stream', message('Q', 'IDENTIFY_SYSTEM')],
];

describe('through a tunnel passes', () => {
  for (const [what, purpose, command] of allowed) {
    it(`${what}, however it is cut`, () => {
      const bytes = Buffer.concat([query(command), message('d', Buffer.alloc(34, 7)), message('X', '')]);
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 40 }), (pieces) => {
          assert.deepEqual(feed(purpose, bytes, pieces), bytes);
        }),
      );
    });
  }
});

describe('through a tunnel does not pass', () => {
  for (const [what, purpose, bytes] of forbidden) {
    it(`${what}, nor any part of it`, () => {
      const filter = new CommandFilter(purpose, slot);
      const half = Math.floor(bytes.length / 2);
      const parts = [bytes.subarray(0, half), bytes.subarray(half)].map((part) => filter.push(part));
      assert.ok(parts.some((part) => part.kind === 'refuse'));
      for (const part of parts) if (part.kind === 'pass') assert.equal(part.chunk.length, 0);
    });
  }
});

it('copy data of any content and size passes untouched', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 2_000 }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 20 }),
      (bodies, pieces) => {
        const bytes = Buffer.concat(bodies.map((body) => message('d', Buffer.from(body))));
        assert.deepEqual(feed('stream', bytes, pieces) ?? Buffer.alloc(0), bytes);
      },
    ),
  );
});
