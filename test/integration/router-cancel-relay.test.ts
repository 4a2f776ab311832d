/** A cancel that the Service sent to another router than the one that gave the key. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { queryMessage } from '#router/wire/client-messages.ts';
import { cancelRequest } from '#router/wire/startup.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, sqlstateOf, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
before(async () => {
  keyspace = await RouterKeyspace.start();
});
after(() => keyspace?.stop());

const ports = [26_451, 26_452] as const;
const line = Buffer.from('PROXY TCP4 203.0.113.9 127.0.0.1 5000 5432\r\n');
const relayed = (router: TestRouter): number => router.worker.metrics.get('cancels_relayed_total');

for (const [place, proxyFrom, header] of [
  ['of one Service', [], Buffer.alloc(0)],
  ['behind a load balancer that sends headers', ['127.0.0.0/8', '::1'], line],
] as const)
  describe(`routers ${place}`, () => {
    let one: TestRouter;
    let other: TestRouter;
    before(async () => {
      const peers = ports.map((port) => `127.0.0.1:${port}`);
      one = await keyspace.router('eu', { port: ports[0], peers, proxyFrom });
      other = await keyspace.router('eu', { port: ports[1], peers, proxyFrom });
    });
    after(() => Promise.all([one.worker.stop(0), other.worker.stop(0)]));

    const login = (router: TestRouter, minor: number): Promise<RawClient> =>
      RawClient.login(
        router.port,
        keyspace.ca.bundle,
        { user: 'acme_app', password, database },
        { minor, ...(header.length > 0 ? { header } : {}) },
      );

    /** Resolves when the router has closed the connection: then all is done. */
    async function cancel(router: TestRouter, processId: number, secret: Buffer): Promise<void> {
      const client = RawClient.plain(await RawClient.tcp(router.port));
      client.send(header, cancelRequest(processId, secret));
      await client.closed();
      assert.equal(client.types(), '');
    }

    for (const minor of [0, 2])
      test(`pass on a cancel of protocol 3.${minor} to the one that gave the key`, async () => {
        const client = await login(one, minor);
        client.send(queryMessage('select pg_sleep(60)'));
        await waitFor(async () => (await keyspace.backends('one-eu-0', "wait_event = 'PgSleep'")) === 1);
        const before = relayed(other);
        await cancel(other, client.processId, Buffer.from(client.secret.map((byte) => byte ^ 1)));
        assert.equal(relayed(other), before + 1);
        // It was told to the right one, which knew better.
        assert.equal(await keyspace.backends('one-eu-0', "wait_event = 'PgSleep'"), 1);
        await cancel(other, client.processId, client.secret);
        const answers = await client.until('Z');
        assert.equal(sqlstateOf(answers.find((message) => message.type === 'E') as (typeof answers)[0]), '57014');
        client.send(queryMessage('select 1'));
        assert.equal(textsOf(await client.until('Z')), 'TDCZI');
        client.end();
      });

    test('never pass on what was passed on, nor what is nobody’s', async () => {
      const client = await login(one, 0);
      const before = [relayed(one), relayed(other)];
      client.end();
      await waitFor(async () => one.worker.metrics.get('clients') === 0);
      // Its session is over: the router that gave the key asks nobody else, but may be asked.
      await cancel(other, client.processId, client.secret);
      assert.deepEqual([relayed(one), relayed(other)], [before[0], (before[1] ?? 0) + 1]);
      await cancel(one, client.processId, client.secret);
      for (const router of [one, other]) await cancel(router, client.processId ^ (511 << 21), client.secret);
      assert.deepEqual([relayed(one), relayed(other)], [before[0], (before[1] ?? 0) + 1]);
    });

    test('serve on when the one that gave the key is gone', async () => {
      const client = await login(other, 2);
      await other.worker.stop(0);
      await cancel(one, client.processId, client.secret);
      const still = await login(one, 2);
      still.send(queryMessage('select 1'));
      assert.equal(textsOf(await still.until('Z')), 'TDCZI');
      still.end();
    });
  });
