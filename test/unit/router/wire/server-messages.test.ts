/** What the router says as if it were the server is what Postgres 17 says, byte for byte (golden/, captured by golden/capture.ts). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { transactionStatus } from '#router/wire/codes.ts';
import {
  commandComplete,
  emptyQueryResponse,
  errorResponse,
  readErrorFields,
  readTextRow,
  readyForQuery,
  textDataRow,
  textRowDescription,
} from '#router/wire/server-messages.ts';

const golden = JSON.parse(readFileSync(new URL('golden/postgres17.json', import.meta.url), 'utf8')) as Record<
  'show' | 'row' | 'error' | 'raised' | 'empty',
  string[]
>;
const bytes = (kind: keyof typeof golden, index: number): Buffer => Buffer.from(golden[kind][index] ?? '', 'hex');

describe('the router’s own answers', () => {
  test('to SHOW are those of Postgres', () => {
    assert.deepEqual(
      [
        textRowDescription(['application_name']),
        textDataRow(['golden']),
        commandComplete('SHOW'),
        readyForQuery(transactionStatus.idle),
      ].map((message) => message.toString('hex')),
      golden.show,
    );
  });

  test('to an empty query are those of Postgres', () => {
    assert.deepEqual(
      [emptyQueryResponse.toString('hex'), readyForQuery(transactionStatus.idle).toString('hex')],
      golden.empty,
    );
  });

  test('rows of text with NULL and more than ASCII are those of Postgres', () => {
    assert.deepEqual(textRowDescription(['one', 'two', 'three']), bytes('row', 0));
    assert.deepEqual(textDataRow(['ä', null, '']), bytes('row', 1));
    assert.deepEqual(readTextRow(bytes('row', 1), 0, bytes('row', 1).length), ['ä', null, '']);
  });
});

describe('errors', () => {
  test('of Postgres are read with all their fields', () => {
    const fields = readErrorFields(bytes('error', 0), 0, bytes('error', 0).length);
    assert.equal(fields.get('C'), '42703');
    assert.equal(fields.get('V'), 'ERROR');
    assert.equal(fields.get('P'), '18');
    assert.equal(fields.get('R'), 'errorMissingColumn');
    const raised = readErrorFields(bytes('raised', 1), 0, bytes('raised', 1).length);
    assert.deepEqual(
      ['C', 'M', 'D', 'H', 't'].map((letter) => raised.get(letter)),
      ['P0042', 'broken', 'the detail', 'the hint', 'accounts'],
    );
  });

  test('of the router read back as they were said, whatever the text', () => {
    fc.assert(
      fc.property(fc.string(), fc.option(fc.string(), { nil: undefined }), (message, hint) => {
        const said = errorResponse({ severity: 'ERROR', sqlstate: 'MD003', message, hint });
        const fields = readErrorFields(said, 0, said.length);
        assert.equal(fields.get('M'), message.replaceAll('\0', ''));
        assert.equal(fields.get('H'), hint?.replaceAll('\0', ''));
        assert.equal(fields.get('C'), 'MD003');
      }),
    );
  });
});
