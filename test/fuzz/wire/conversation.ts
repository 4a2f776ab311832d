/**
 * What a client says in one go: messages that make sense, in any order, and what is then done to them. Pure: the same random numbers
 * make the same bytes. Every text that comes back carries the client's nonce.
 */

import { copyFailMessage, flushMessage, queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { below, type Random } from '#test/history/random.ts';

const pick = <T>(random: Random, from: readonly T[]): T => from[below(random, from.length)] as T;

const statements = ['', 's1', 's2'];
const portals = ['', 'p1'];

function sqlOf(random: Random, nonce: string): string {
  return pick(random, [
    `select '${nonce}'`,
    `select '${nonce}' from generate_series(1, ${1 + below(random, 400)})`,
    `select repeat('${nonce} ', ${below(random, 3_000)})`,
    `select $1::text || '${nonce}'`,
    `select '${nonce}'::int`,
    `do $$ begin raise notice '${nonce}'; end $$`,
    `copy (select '${nonce}') to stdout`,
    `copy notes (tenant_id, body) from stdin`,
    `insert into notes (tenant_id, body) values ('acme', '${nonce}') returning body`,
    `declare c cursor for select '${nonce}'`,
    'fetch 1 from c',
    `set app.nonce = '${nonce}'`,
    `prepare q as select '${nonce}'`,
    'execute q',
    'begin',
    'commit',
    'rollback',
    'savepoint a',
    'discard all',
    'show meridian.tenant',
    "select * from accounts where tenant_id = 'bolt'",
    '',
    ';;',
    `select 1; select '${nonce}'; begin`,
    'select pg_sleep(0.003)',
    `/* ${nonce}`,
    `select '${nonce}`,
  ]);
}

/** Of fields: below -1, or beyond the message. */
const lyingLengths = [-2, -0x8000_0000, 0x7fff_ffff, 1_000, 1];

function bindOf(random: Random, nonce: string): Buffer {
  const count = below(random, 3);
  const values = Array.from({ length: count }, () =>
    random() < 0.06
      ? [int32(pick(random, lyingLengths))]
      : pick(random, [[int32(-1)], [int32(nonce.length), Buffer.from(nonce)], [int32(0)]]),
  ).flat();
  const formats = pick(random, [[int16(0)], [int16(1), int16(1)], [int16(1), int16(0)], [int16(1), int16(9)]]);
  return message(
    0x42,
    pick(random, portals),
    pick(random, statements),
    ...formats,
    int16(count),
    ...values,
    ...pick(random, [[int16(0)], [int16(1), int16(1)]]),
  );
}

const target = (random: Random): Buffer[] => {
  const [letter, names] = pick(random, [['S', statements] as const, ['P', portals] as const]);
  return [Buffer.from(letter), Buffer.from(`${pick(random, names)}\0`)];
};

/** One message as a client may send it. */
export function messageOf(random: Random, nonce: string): Buffer {
  switch (below(random, 13)) {
    case 0:
    case 1: {
      const query = queryMessage(sqlOf(random, nonce));
      // Within a pipeline it ends the connection: mostly, then, behind a Sync.
      return random() < 0.1 ? query : Buffer.concat([syncMessage, query]);
    }
    case 2:
    case 3:
      return message(0x50, pick(random, statements), sqlOf(random, nonce), int16(below(random, 2)));
    case 4:
      return message(0x50, pick(random, statements), sqlOf(random, nonce), int16(0));
    case 5:
      return bindOf(random, nonce);
    case 6:
      return message(0x44, ...target(random));
    case 7:
      return message(0x45, pick(random, portals), int32(pick(random, [0, 1, 2, -1])));
    case 8:
      return message(0x43, ...target(random));
    case 9:
      return pick(random, [syncMessage, syncMessage, flushMessage]);
    case 10:
      return pick(random, [message(0x64, Buffer.from(`acme\t${nonce}\n`)), message(0x63), copyFailMessage(nonce)]);
    case 11:
      return random() < 0.8
        ? message(0x46, int32(2026), int16(0), int16(0), int16(0))
        : message(0x46, int32(2026), int16(0), int16(1), int32(pick(random, lyingLengths)), int16(0));
    default:
      // A whole cycle, so that some of it works.
      return Buffer.concat([
        message(0x50, '', `select '${nonce}'`, int16(0)),
        message(0x42, '', '', int16(0), int16(0), int16(0)),
        message(0x44, Buffer.from('P'), ''),
        message(0x45, '', int32(0)),
        syncMessage,
      ]);
  }
}

/** Lengths that lie: too small, signed, huge, or off by a little. */
function lie(random: Random, frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  const length = frame.readUInt32BE(1);
  copy.writeUInt32BE(
    pick(random, [0, 3, 4, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0x1000_0001, length + 1, Math.max(0, length - 1)]),
    1,
  );
  return copy;
}

function flip(random: Random, frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  for (let times = 1 + below(random, 3); times > 0 && copy.length > 5; times--)
    copy[5 + below(random, copy.length - 5)] = below(random, 256);
  return copy;
}

const mutations: readonly ((random: Random, messages: Buffer[], nonce: string) => void)[] = [
  () => undefined,
  (random, messages) => {
    const at = below(random, messages.length);
    messages[at] = lie(random, messages[at] as Buffer);
  },
  (random, messages) => {
    const at = below(random, messages.length);
    messages[at] = flip(random, messages[at] as Buffer);
  },
  (random, messages) => {
    const at = below(random, messages.length);
    messages[at] = flip(random, messages[at] as Buffer);
    const other = below(random, messages.length);
    messages[other] = flip(random, messages[other] as Buffer);
  },
  // A type that nobody knows, or that only servers, or only others, say.
  (random, messages) => {
    const at = below(random, messages.length);
    const copy = Buffer.from(messages[at] as Buffer);
    copy[0] = pick(random, [0, 0x21, 0x70, 0x54, 0x5a, 0x52, 0xff, below(random, 256)]);
    messages[at] = copy;
  },
  (random, messages) => {
    const at = below(random, messages.length);
    const other = below(random, messages.length);
    [messages[at], messages[other]] = [messages[other] as Buffer, messages[at] as Buffer];
  },
  (random, messages) => {
    messages.splice(below(random, messages.length), 1);
  },
  (random, messages) => {
    const garbage = Buffer.from(Array.from({ length: 1 + below(random, 40) }, () => below(random, 256)));
    messages.splice(below(random, messages.length + 1), 0, garbage);
  },
  // What belongs before the log-in.
  (random, messages, nonce) => {
    const startup = Buffer.concat([int32(8 + nonce.length), int32(196_608), Buffer.from(nonce)]);
    const early = [startup, Buffer.from('0000000804d2162f', 'hex'), message(0x70, nonce)];
    messages.splice(below(random, messages.length + 1), 0, pick(random, early));
  },
  (random, messages) => {
    const last = messages.at(-1) as Buffer;
    messages[messages.length - 1] = last.subarray(0, below(random, last.length));
  },
];

export interface Conversation {
  readonly bytes: Buffer;
  /** The bytes cut into messages end where the messages do: whatever they mean, an answer is due. */
  readonly isFramed: boolean;
}

export function conversationOf(random: Random, nonce: string): Conversation {
  const messages = Array.from({ length: 1 + below(random, 8) }, () => messageOf(random, nonce));
  pick(random, mutations)(random, messages, nonce);
  const bytes = Buffer.concat(messages);
  return { bytes, isFramed: isFramed(bytes) };
}

function isFramed(bytes: Buffer): boolean {
  let position = 0;
  while (bytes.length - position >= 5) {
    const length = bytes.readUInt32BE(position + 1);
    if (length < 4) return false;
    position += 1 + length;
  }
  return position === bytes.length;
}

/** After it, whatever came before, the connection is closed or says the nonce once more. */
export const trailer = (nonce: string): Buffer =>
  Buffer.concat([
    copyFailMessage('the end'),
    syncMessage,
    queryMessage('rollback'),
    queryMessage(`select 'end of ${nonce}'`),
  ]);

/** Where the bytes are cut into pieces: at each byte, at some, or nowhere. */
export function piecesOf(random: Random, bytes: Buffer): Buffer[] {
  const cuts = pick(random, [0, 0, 1, 3, 10]);
  if (cuts === 10 && bytes.length < 300) return Array.from(bytes, (_byte, at) => bytes.subarray(at, at + 1));
  const places = Array.from({ length: cuts }, () => below(random, bytes.length + 1)).toSorted((a, b) => a - b);
  return [0, ...places].map((from, index) => bytes.subarray(from, places[index] ?? bytes.length));
}
