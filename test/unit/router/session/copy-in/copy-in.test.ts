/** What COPY keeps of what a client sends: no more than a batch, however many rows came in one message. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PlannedStatement } from '#router/exec/plan-cache.ts';
import type { Request } from '#router/session/borrower.ts';
import type { Conversation } from '#router/session/conversation.ts';
import { CopyIn } from '#router/session/copy-in/copy-in.ts';
import { SessionSettings } from '#router/session/settings.ts';
import { ClientTransaction } from '#router/session/transaction.ts';
import { frontend } from '#router/wire/codes.ts';
import { message } from '#router/wire/writer.ts';
import { plan } from '../../plan/fixture.ts';

/** A session whose requests wait to be answered here. */
function conversation() {
  const said: Buffer[] = [];
  const asked: Request[] = [];
  const route = { tenant: 'acme', shard: 'one', level: 'strong', primaryOnly: true } as const;
  const session = {
    transaction: new ClientTransaction(new SessionSettings(new Map(), {})),
    routing: { routeOf: () => route, map: () => ({ keyspace: { tenantColumn: 'tenant_id', tenantType: 'text' } }) },
    loan: { isBound: true, run: (request: Request) => void asked.push(request) },
    say: (bytes: Buffer) => void said.push(bytes),
  };
  const planned = { plan: plan('copy orders (tenant_id, id) from stdin'), hints: {}, keys: [] };
  return { session: session as unknown as Conversation, planned: planned as PlannedStatement, asked, said };
}

test('a message of many rows is read as fast as they are taken, and no faster', () => {
  const { session, planned, asked, said } = conversation();
  let overs = 0;
  const copy = new CopyIn(session, planned, () => {
    overs += 1;
  });
  copy.start();
  const next = (): Request => {
    assert.equal(asked.length, 1, 'one thing at a time');
    return asked.pop() as Request;
  };
  const answer = (request: Request): void => {
    const completed = request.plans.length;
    request.silent?.answered({ rows: [], completed, affected: completed, error: undefined, isStale: false });
  };
  answer(next());
  const rows = 200_000;
  const before = process.memoryUsage().heapUsed;
  copy.take(message(frontend.copyData, Buffer.from('acme\t1\n'.repeat(rows))));
  assert.ok(process.memoryUsage().heapUsed - before < 20_000_000, 'only some of the rows have been read');
  let taken = 0;
  while (asked.length > 0) {
    const request = next();
    taken += request.plans.length;
    assert.ok(request.plans.length <= 1_000);
    answer(request);
  }
  copy.take(message(frontend.copyDone));
  for (let request = asked.pop(); request !== undefined; request = asked.pop()) {
    if (request.plans[0]?.kind === 'insert') taken += request.plans.length;
    answer(request);
  }
  assert.equal(taken, rows);
  assert.equal(overs, 1);
  assert.match(Buffer.concat(said).toString('latin1'), new RegExp(`COPY ${rows}\0`));
});
