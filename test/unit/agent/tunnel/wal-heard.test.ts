import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { WalHeard } from '#agent/tunnel/wal-heard.ts';

const message = (type: string, body: string): Buffer => {
  const content = Buffer.from(body, 'latin1');
  const packet = Buffer.alloc(5 + content.length);
  packet.write(type, 0, 'latin1');
  packet.writeInt32BE(4 + content.length, 1);
  content.copy(packet, 5);
  return packet;
};

/** Bodies full of what a header of WAL looks like. */
const messages = fc.array(
  fc.record({
    type: fc.constantFrom('d', 'T', 'W', 'Z'),
    body: fc.constantFrom('', 'w', 'k', 'wd\0\0\0\x06w', 'kw', 'kd\0\0\0\x05w'),
  }),
  { maxLength: 8 },
);

it('WAL is heard exactly when an XLogData message came, however the bytes are cut', () => {
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 9 })), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map(({ type, body }) => message(type, body)));
      const heard = new WalHeard();
      let any = false;
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        const isHeard = heard.push(bytes.subarray(at, at + cut));
        any ||= isHeard;
        at += cut;
      }
      assert.equal(
        any,
        sent.some(({ type, body }) => type === 'd' && body.startsWith('w')),
      );
    }),
  );
});
