import assert from 'node:assert/strict';
import { it } from 'node:test';
import { compareLists, type ListChange, type SynchronousList } from '#agent/member/synchronous-list.ts';
import { nobody } from '#core/identity.ts';
import { other, self, third } from '../orders/orders-fixture.ts';

const list = (acknowledgements: number, ...members: SynchronousList['members'][number][]): SynchronousList => ({
  acknowledgements,
  members,
});

const cases: readonly [string, SynchronousList | undefined, SynchronousList, ListChange][] = [
  ['the same list', list(1, other), list(1, other), 'same'],
  ['the same list in another order', list(1, other, third), list(1, third, other), 'same'],
  ['no list at all, twice', list(0), list(0), 'same'],
  ['a first acknowledger in the place of nobody', list(1, nobody), list(1, other), 'grown'],
  ['one more acknowledger', list(1, other), list(1, other, third), 'grown'],
  ['one acknowledger fewer', list(1, other, third), list(1, other), 'changed'],
  ['another incarnation', list(1, other), list(1, { ...other, incarnation: self.incarnation }), 'changed'],
  ['a higher k', list(1, other, third), list(2, other, third), 'changed'],
  ['a lower k', list(2, other, third), list(1, other, third), 'changed'],
  ['a list where there was none', list(0), list(1, other), 'begun'],
  ['no list any more', list(1, other), list(0), 'changed'],
  // After a change that went wrong halfway; "begun" is the one that takes every precaution.
  ['a list after an unknown one', undefined, list(1, other), 'begun'],
  ['no list after an unknown one', undefined, list(0), 'changed'],
];

for (const [what, before, after, expected] of cases) {
  it(`${what} is ${expected}`, () => assert.equal(compareLists(before, after), expected));
}
