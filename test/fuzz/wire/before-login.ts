/** What may come before a log-in from somebody who isn't a client, or is one that lies: bytes only. Nothing of it may let anybody in. */

import { cancelRequest, sslRequest, startupPacket } from '#router/wire/startup.ts';
import { int32, message } from '#router/wire/writer.ts';
import { below, type Random } from '#test/history/random.ts';

const pick = <T>(random: Random, from: readonly T[]): T => from[below(random, from.length)] as T;
const garbage = (random: Random, most: number): Buffer =>
  Buffer.from(Array.from({ length: below(random, most) }, () => below(random, 256)));

const gssRequest = Buffer.concat([int32(8), int32(80_877_104)]);
const startup = startupPacket({ user: 'acme_app', database: 'shop' });

function packet(random: Random): Buffer {
  switch (below(random, 10)) {
    case 0:
      return sslRequest;
    case 1:
      return gssRequest;
    case 2:
      return startup;
    case 3:
      return startupPacket({
        user: 'acme_app',
        '_pq_.x': 'y',
        options: '-c meridian.tenant=acme',
        x: 'y'.repeat(below(random, 12_000)),
      });
    case 4:
      return cancelRequest(below(random, 2 ** 31), garbage(random, 300));
    case 5: {
      const copy = Buffer.from(startup);
      copy.writeUInt32BE(pick(random, [0, 4, 7, 8, 9, 10_000, 10_001, 0xffff_ffff, 0x8000_0000, copy.length + 3]), 0);
      return copy;
    }
    case 6: {
      const copy = Buffer.from(startup);
      copy.writeUInt32BE(
        pick(random, [0, 0x0002_0000, 0x0003_0001, 0x0003_ffff, 0x0004_0000, below(random, 2 ** 32)]),
        4,
      );
      return copy;
    }
    case 7: {
      const copy = Buffer.from(startup);
      copy[8 + below(random, copy.length - 8)] = below(random, 256);
      return copy;
    }
    case 8:
      return message(0x70, 'SCRAM-SHA-256', int32(pick(random, [-1, -2, 0, 5, 0x7fff_ffff])), garbage(random, 40));
    default:
      return pick(random, [
        garbage(random, 200),
        // More than anybody may say before being let in.
        Buffer.concat([startup, message(0x70, Buffer.alloc(below(random, 80_000), 0x61))]),
        Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n'),
        Buffer.from([0x16, 3, 1]),
      ]);
  }
}

/** A few packets, in whatever order. */
export const beforeLogin = (random: Random): Buffer =>
  Buffer.concat(Array.from({ length: 1 + below(random, 4) }, () => packet(random)));
