/** The short part of `npm run fuzz:wire`, and every message of a conversation cut in two at every byte. ROUTER_FUZZ_SEED runs a seed again. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { copyFailMessage, flushMessage, queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import { Campaign } from '#test/fuzz/wire/campaign.ts';
import { database, password, RouterKeyspace } from './router-keyspace.ts';
import { RawClient, type RawMessage, textsOf } from './router-raw-client.ts';

const seed = Number(process.env['ROUTER_FUZZ_SEED'] ?? Date.now() % 1_000_000);
let keyspace: RouterKeyspace;
before(async () => {
  keyspace = await RouterKeyspace.start();
});
after(() => keyspace?.stop());

test('whatever some clients say, the router serves on, and nobody gets another’s bytes', async (context) => {
  const result = await Campaign.run(keyspace, { seed, count: 1_000, mostMs: 6_000 });
  context.diagnostic(`seed ${seed}: ${JSON.stringify(result)}`);
  assert.ok(result.answered > 5 && result.closed > 5 && result.strangers > 5, JSON.stringify(result));
});

test('each kind of message may be cut in two at each of its bytes', async () => {
  const router = await keyspace.router('eu');
  const client = await RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
  const conversation = Buffer.concat([
    message(0x50, 'a', 'select $1::text', int16(1), int32(25)),
    message(0x44, Buffer.from('S'), 'a'),
    message(0x42, 'p', 'a', int16(1), int16(0), int16(1), int32(1), Buffer.from('x'), int16(1), int16(1)),
    message(0x44, Buffer.from('P'), 'p'),
    message(0x45, 'p', int32(0)),
    flushMessage,
    message(0x43, Buffer.from('S'), 'a'),
    syncMessage,
    queryMessage('copy (select 1) to stdout'),
    copyFailMessage('left over'),
    message(0x64, Buffer.from('left over')),
    message(0x63),
    message(0x46, int32(2026), int16(0), int16(0), int16(0)),
  ]);
  for (let at = 0; at < conversation.length; at++) {
    client.send(conversation.subarray(0, at));
    await new Promise((resolve) => setImmediate(resolve));
    client.send(conversation.subarray(at));
    const answers: RawMessage[] = [];
    for (let ready = 0; ready < 3; ready++) answers.push(...(await client.until('Z')));
    assert.equal(textsOf(answers), '1tT2TDC3ZIHdcCZIVZI', `cut at ${at}`);
  }
  client.end();
});
