import assert from 'node:assert/strict';
import { it } from 'node:test';
import { StartGate } from '#agent/authority/gate.ts';
import type { ShardAuthority } from '#agent/authority/source.ts';
import { ordersWith, self } from '../orders/orders-fixture.ts';

const record = (epoch: number): ShardAuthority => ({
  metadata: { uid: 'uid' },
  status: { authority: { epoch, member: self.name, incarnation: self.incarnation, state: 'Active' } },
});
const orders = ordersWith({ role: 'Primary' });

it('a confirmation opens for a few seconds, counted from the question, and holds while Postgres is open', async () => {
  let now = 0;
  const source = {
    read: () => {
      now += 2_000;
      return Promise.resolve(record(1));
    },
  };
  const gate = new StartGate(source, () => now);
  assert.equal(gate.confirmedEpoch(false), 0);
  assert.equal(await gate.confirm(orders, self), undefined);
  assert.equal(gate.confirmedEpoch(false), 1);
  now += 2_999;
  assert.equal(gate.confirmedEpoch(false), 1);
  now += 1;
  assert.equal(gate.confirmedEpoch(false), 0);
  assert.equal(gate.confirmedEpoch(true), 1);
  gate.forget();
  assert.equal(gate.confirmedEpoch(true), 0);
});

it('a record that names another, or can not be read, shuts the gate or leaves it shut, and says why', async () => {
  let answer: () => Promise<ShardAuthority | undefined> = () => Promise.resolve(record(1));
  const gate = new StartGate({ read: () => answer() }, () => 0);
  await gate.confirm(orders, self);
  answer = () => Promise.resolve(record(2));
  assert.match((await gate.confirm(orders, self)) ?? '', /epoch 2/);
  assert.equal(gate.confirmedEpoch(true), 0);
  answer = () => Promise.reject(new Error('no route'));
  assert.equal(await gate.confirm(orders, self), 'no route');
  assert.equal(gate.confirmedEpoch(false), 0);
});
