/** Whose turn it is among tenants that wait for a connection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FairQueue, type Place } from '#router/pool/fair-queue.ts';

const turns = (queue: FairQueue<string>, most: number): string[] => {
  const given: string[] = [];
  for (let value = queue.shift(); value !== undefined && given.length < most; value = queue.shift()) given.push(value);
  return given;
};

test('a tenant with one waiting is served before the thousand of another, but for one', () => {
  const queue = new FairQueue<string>();
  for (let index = 0; index < 1_000; index++) queue.push('many', `many ${index}`);
  queue.push('one', 'the one');
  assert.deepEqual(turns(queue, 3), ['many 0', 'the one', 'many 1']);
});

test('of one tenant, the first to come is the first to go', () => {
  const queue = new FairQueue<string>();
  for (const name of ['a', 'b', 'a', 'b', 'b']) queue.push(name, `${name}${queue.length}`);
  assert.deepEqual(turns(queue, 9), ['a0', 'b1', 'a2', 'b3', 'b4']);
});

test('whoever held connections for long has fewer turns, and none owed once nobody waits', () => {
  const queue = new FairQueue<string>({ turnMs: 10, mostOwed: 3 });
  const fill = (): void => {
    for (let index = 0; index < 8; index++) {
      queue.push('slow', 'slow');
      queue.push('quick', 'quick');
    }
  };
  queue.took('slow');
  fill();
  queue.gave('slow', 10_000);
  assert.deepEqual(turns(queue, 6), ['quick', 'quick', 'quick', 'slow', 'quick', 'slow']);
  queue.drain();
  queue.took('slow');
  queue.gave('slow', 10_000);
  fill();
  assert.deepEqual(turns(queue, 2), ['slow', 'quick']);
});

test('who owes turns is served at once where nobody else waits', () => {
  const queue = new FairQueue<string>({ turnMs: 1, mostOwed: 1_000 });
  queue.took('slow');
  queue.push('slow', 'slow');
  queue.gave('slow', 5_000);
  assert.equal(queue.shift(), 'slow');
});

test('a tenant that holds all it may is passed over, and has its turn when it gives one back', () => {
  const queue = new FairQueue<string>();
  queue.mostHeld = 1;
  queue.took('a');
  queue.push('a', 'a');
  assert.deepEqual([queue.isReady, queue.mayHold('a'), queue.mayHold('b'), queue.length], [false, false, true, 1]);
  queue.push('b', 'b');
  assert.equal(queue.shift(), 'b');
  assert.equal(queue.shift(), undefined);
  queue.gave('a', 1);
  assert.equal(queue.shift(), 'a');
});

test('a higher bound lets those go who waited for the lower one', () => {
  const queue = new FairQueue<string>();
  queue.mostHeld = 1;
  queue.took('a');
  queue.push('a', 'a');
  queue.mostHeld = 2;
  assert.equal(queue.shift(), 'a');
});

/** What a queue has to do, said slowly: of each tenant in order, no tenant twice while another waits, nobody lost. */
test('nobody is lost, and between two turns of a tenant every other that waits has one', () => {
  const operation = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('push' as const), tenant: fc.constantFrom('a', 'b', 'c', 'd') }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('shift' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), which: fc.nat() }) },
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const queue = new FairQueue<number>();
      const waiting: { tenant: string; id: number; place: Place<number> }[] = [];
      /** Tenant -> those served since it last was, while it waited. */
      const since = new Map<string, string[]>();
      let id = 0;
      for (const step of operations) {
        if (step.kind === 'push') {
          if (!waiting.some(({ tenant }) => tenant === step.tenant)) since.set(step.tenant, []);
          id += 1;
          waiting.push({ tenant: step.tenant, id, place: queue.push(step.tenant, id) });
        } else if (step.kind === 'remove') {
          const [gone] = waiting.length === 0 ? [] : waiting.splice(step.which % waiting.length, 1);
          if (gone !== undefined) queue.remove(gone.place);
          if (gone !== undefined) queue.remove(gone.place);
        } else {
          const peeked = queue.peek();
          const served = queue.shift();
          assert.equal(served, peeked);
          const index = waiting.findIndex((one) => one.id === served);
          assert.equal(index === -1, waiting.length === 0);
          if (index === -1) continue;
          const { tenant } = waiting[index] as (typeof waiting)[number];
          assert.equal(waiting.find((one) => one.tenant === tenant)?.id, served, 'not the first of its tenant');
          waiting.splice(index, 1);
          for (const [name, others] of since)
            if (name !== tenant && waiting.some((one) => one.tenant === name)) others.push(tenant);
          since.set(tenant, []);
          for (const others of since.values())
            assert.equal(new Set(others).size, others.length, 'two turns while another waited');
        }
        for (const name of since.keys()) if (!waiting.some(({ tenant }) => tenant === name)) since.delete(name);
        assert.equal(queue.length, waiting.length);
        assert.deepEqual(
          [...queue.values()].toSorted((a, b) => a - b),
          waiting.map((one) => one.id).toSorted((a, b) => a - b),
        );
      }
    }),
    { numRuns: 500 },
  );
});

test('ten thousand tenants with ten each are handed out in less time than a scan of them would take', () => {
  const queue = new FairQueue<number>();
  for (let round = 0; round < 10; round++)
    for (let tenant = 0; tenant < 10_000; tenant++) queue.push(`tenant ${tenant}`, tenant);
  const before = process.cpuUsage();
  let served = 0;
  while (queue.shift() !== undefined) served += 1;
  const micros = process.cpuUsage(before).user / served;
  assert.equal(served, 100_000);
  assert.ok(micros < 50, `${micros} µs each`);
});
