import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ProtocolViolation } from '#router/wire/protocol-violation.ts';
import { readProxyHeader } from '#router/wire/proxy-header.ts';

const binary = (command: number, family: number, body: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
    Buffer.from([0x20 | command, family, body.length >> 8, body.length & 0xff]),
    body,
  ]);

const ports = Buffer.from([0xd4, 0x31, 0x15, 0x38]);
const four = Buffer.concat([Buffer.from([10, 1, 2, 3, 10, 0, 0, 9]), ports]);
const six = Buffer.concat([Buffer.from('20010db8000000000000000000000001'.repeat(2), 'hex'), ports]);
const line = Buffer.from('PROXY TCP4 10.1.2.3 10.0.0.9 54321 5432\r\n');

const headers: readonly [name: string, header: Buffer, source: unknown][] = [
  ['a line of IPv4', line, { address: '10.1.2.3', port: 54_321 }],
  [
    'a line of IPv6',
    Buffer.from('PROXY TCP6 2001:db8::1 ::1 54321 5432\r\n'),
    { address: '2001:db8::1', port: 54_321 },
  ],
  ['a line that does not say', Buffer.from('PROXY UNKNOWN ffff::1 ::1 1 2\r\n'), undefined],
  ['binary IPv4', binary(1, 0x11, four), { address: '10.1.2.3', port: 54_321 }],
  ['binary IPv6', binary(1, 0x21, six), { address: '2001:db8:0:0:0:0:0:1', port: 54_321 }],
  [
    'binary with more behind the addresses',
    binary(1, 0x11, Buffer.concat([four, Buffer.from([4, 0, 1, 0])])),
    { address: '10.1.2.3', port: 54_321 },
  ],
  ['binary of a Unix socket', binary(1, 0x31, Buffer.alloc(216)), undefined],
  ['the balancer for itself', binary(0, 0, Buffer.alloc(0)), undefined],
];

describe('a PROXY protocol header', () => {
  for (const [name, header, source] of headers)
    test(`is read: ${name}; in any two pieces, and with what comes behind it left alone`, () => {
      for (let length = 0; length < header.length; length++)
        assert.equal(readProxyHeader(header.subarray(0, length)), undefined, `${length} bytes`);
      assert.deepEqual(readProxyHeader(header), { bytes: header.length, source });
      assert.deepEqual(readProxyHeader(Buffer.concat([header, Buffer.from('\r\nmore')])), {
        bytes: header.length,
        source,
      });
    });

  test('that is none, or lies, is a violation', () => {
    for (const wrong of [
      Buffer.from('GET / HTTP/1.1'),
      Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]),
      Buffer.from('PROXY TCP4 10.1.2.3 10.0.0.9 54321\r\n'),
      Buffer.from('PROXY TCP4 10.1.2.3 10.0.0.9 54321 5432 1\r\n'),
      Buffer.from('PROXY TCP4 ::1 10.0.0.9 54321 5432\r\n'),
      Buffer.from('PROXY TCP4 10.1.2.3 10.0.0.9 054321 5432\r\n'),
      Buffer.from('PROXY UDP4 10.1.2.3 10.0.0.9 1 2\r\n'),
      Buffer.from(`PROXY TCP4 ${'1'.repeat(120)}`),
      binary(2, 0x11, four),
      binary(1, 0x11, four.subarray(0, 11)),
      binary(1, 0x11, Buffer.alloc(4_097)),
      Buffer.from(binary(1, 0x11, four).toString('latin1').replace('!', '1'), 'latin1'),
    ])
      assert.throws(() => readProxyHeader(wrong), ProtocolViolation, wrong.toString('latin1'));
  });

  test('of any bytes at all is read, awaited, or a violation', () => {
    const start = fc.constantFrom(line.subarray(0, 6), binary(1, 0x11, four).subarray(0, 12), Buffer.alloc(0));
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 60 }), (first, rest) => {
        const bytes = Buffer.concat([first, rest]);
        try {
          assert.ok((readProxyHeader(bytes)?.bytes ?? 0) <= bytes.length);
        } catch (error) {
          assert.ok(error instanceof ProtocolViolation, String(error));
        }
      }),
    );
  });
});
