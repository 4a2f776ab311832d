import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Routers } from '#agent/member/routers.ts';

const word = (id: string, holdsAtEpoch: number, inFlight: number) => ({ id, holdsAtEpoch, inFlight });

it('routers are drained when each that was heard of lately holds at this epoch and has nothing under way', () => {
  let now = 1_000;
  const routers = new Routers(() => now);
  assert.equal(routers.areDrained(2), true);
  routers.hear(word('a', 0, 0));
  assert.equal(routers.areDrained(2), false, 'one sends');
  routers.hear(word('a', 1, 0));
  assert.equal(routers.areDrained(2), false, 'one holds at an older epoch');
  routers.hear(word('a', 2, 0));
  routers.hear(word('b', 2, 3));
  assert.equal(routers.areDrained(2), false, 'one has transactions under way');
  routers.hear({ ...word('b', 0, 3), goodbye: true });
  assert.equal(routers.areDrained(2), true, 'and has said goodbye');
  routers.hear(word('c', 0, 1));
  now += 2_000;
  routers.hear(word('a', 2, 0));
  assert.equal(routers.areDrained(2), false);
  now += 1_001;
  assert.equal(routers.areDrained(2), true, 'one is silent for longer than 3 s');
});
