/**
 * No byte of one client at another's: the short form of `npm run fuzz:taint`. It ends with enough answers, not after a time: how many come
 * in a second is the machine's business. The seed is printed; ROUTER_TAINT_SEED runs it again.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { expectNothingLeft, prepareTaint, runTaint } from '../fuzz/taint/run.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

const seed = Number(process.env['ROUTER_TAINT_SEED'] ?? Date.now() % 1_000_000);

let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  await prepareTaint(router);
});
after(() => keyspace?.stop());

test('every answer is the asking client’s own', async (context) => {
  const counts = await runTaint(keyspace, router, { clients: 40, responses: 12_000, maxMs: 60_000, seed });
  context.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}`);
  assert.ok(counts.responses > 1_000 && counts.cancels > 5 && counts.hangUps > 5, JSON.stringify(counts));
  // It shows nothing where nobody shared anything.
  assert.ok(counts.shared > 20 && counts.ofSeveralTenants > 0, JSON.stringify(counts));
  await expectNothingLeft(router);
});
