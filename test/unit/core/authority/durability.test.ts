/** What is said about a durability that can't be had, or is about to be lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DeclaredMember, whyImpossible } from '#core/authority/durability.ts';

const members = (...regions: readonly string[]): DeclaredMember[] =>
  regions.map((region, index) => ({ name: `${region}-${index}`, region, promotable: true }));

const anyone = (acknowledgements: number) => ({ acknowledgements, scope: 'AnyMember' as const });

test('three members bear one and two acknowledgements, and never three', () => {
  const three = members('eu', 'us', 'ap');
  assert.equal(whyImpossible(three, 'eu', anyone(1)), undefined);
  assert.equal(whyImpossible(three, 'eu', anyone(2)), undefined);
  const impossible = whyImpossible(three, 'eu', anyone(3));
  assert.equal(impossible?.reason, 'TooFewMembers');
  assert.match(impossible?.message ?? '', /3 need 3 followers besides the primary, but the RegionalReplicas declare 2/);
});

test('with OtherRegion, members beside the primary do not help', () => {
  const near = members('eu', 'eu', 'eu');
  const wish = { acknowledgements: 1, scope: 'OtherRegion' as const };
  assert.equal(whyImpossible(near, 'eu', anyone(1)), undefined);
  assert.match(whyImpossible(near, 'eu', wish)?.message ?? '', /1 follower outside eu/);
});

test('readers can acknowledge, but k + 1 members must be able to take over', () => {
  const readers = members('eu', 'us').map((member, index) => ({ ...member, promotable: index === 0 }));
  assert.equal(whyImpossible(readers, 'eu', anyone(1))?.reason, 'TooFewPromotable');
});

test('k = 0 is always possible, even before anything is declared', () => {
  assert.equal(whyImpossible([], 'eu', anyone(0)), undefined);
  assert.equal(whyImpossible([], 'eu', anyone(1))?.reason, 'TooFewMembers');
});
