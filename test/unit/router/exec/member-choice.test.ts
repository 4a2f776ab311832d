/** Which members may serve, and in which order. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RouterError } from '#router/errors.ts';
import { type ChoiceInput, chooseMembers } from '#router/exec/member-choice.ts';
import { map } from './fixture.ts';

const chosen = (
  shard: string | undefined,
  primaryOnly: boolean,
  region: string,
  more: Partial<ChoiceInput> = {},
): string[] =>
  chooseMembers(
    { shard, primaryOnly, level: 'eventual' },
    { map, region, isReachable: () => true, isClosed: () => false, previous: undefined, ...more },
  ).map(({ member, isPrimary }) => (isPrimary ? `${member.name}*` : member.name));

describe('members', () => {
  test('what needs the primary goes there and nowhere else', () => {
    assert.deepEqual(chosen('one', true, 'ap'), ['one-eu-0*']);
    assert.deepEqual(chosen('one', true, 'ap', { isReachable: () => false }), ['one-eu-0*']);
  });

  test('eventual reads prefer followers by nearness, and leave the primary for last', () => {
    assert.deepEqual(chosen('one', false, 'ap'), ['one-ap-0', 'one-us-0', 'one-eu-0*']);
    assert.deepEqual(chosen('one', false, 'eu'), ['one-us-0', 'one-ap-0', 'one-eu-0*']);
  });

  test('a follower that is not ready is left out, and the only one is the primary', () => {
    assert.deepEqual(chosen('two', false, 'ap'), ['two-us-0*']);
  });

  test('a member that could not be reached a moment ago comes after the others', () => {
    assert.deepEqual(chosen('one', false, 'ap', { isReachable: (name) => name !== 'one-ap-0' }), [
      'one-us-0',
      'one-eu-0*',
      'one-ap-0',
    ]);
  });

  test('of two as near the one that served before stays', () => {
    const both = {
      ...map,
      members: new Map([...map.members, ['one-ap-1', { ...map.members.get('one-ap-0'), name: 'one-ap-1' }]]),
    } as typeof map;
    assert.equal(chosen('one', false, 'ap', { map: both })[0], 'one-ap-0');
    assert.equal(chosen('one', false, 'ap', { map: both, previous: 'one-ap-1' })[0], 'one-ap-1');
    assert.equal(chosen('one', false, 'ap', { map: both, previous: 'one-us-0' })[0], 'one-ap-0');
  });

  test('of two as near the one with fewer statements in flight is taken, unless a session would gain little by it', () => {
    const both = {
      ...map,
      members: new Map([...map.members, ['one-ap-1', { ...map.members.get('one-ap-0'), name: 'one-ap-1' }]]),
    } as typeof map;
    const inFlight = (busy: Readonly<Record<string, number>>) => (name: string) => busy[name] ?? 0;
    assert.equal(chosen('one', false, 'ap', { map: both, inFlight: inFlight({ 'one-ap-0': 1 }) })[0], 'one-ap-1');
    const previous = 'one-ap-0';
    assert.equal(
      chosen('one', false, 'ap', { map: both, previous, inFlight: inFlight({ 'one-ap-0': 3 }) })[0],
      previous,
    );
    assert.equal(
      chosen('one', false, 'ap', { map: both, previous, inFlight: inFlight({ 'one-ap-0': 9 }) })[0],
      'one-ap-1',
    );
    assert.equal(
      chosen('one', false, 'ap', { map: both, inFlight: inFlight({ 'one-us-0': 0, 'one-ap-0': 9, 'one-ap-1': 9 }) })[0],
      'one-ap-0',
    );
  });

  test('a statement of no tenant goes to the nearest member of any shard', () => {
    assert.equal(chosen(undefined, false, 'ap')[0], 'one-ap-0');
    assert.equal(chosen(undefined, false, 'us').length, 4);
    assert.deepEqual(chosen(undefined, true, 'us'), ['two-us-0*', 'one-eu-0*']);
  });

  test('a shard without a primary refuses what needs one', () => {
    for (const primaryOnly of [true, false])
      assert.throws(
        () => chosen('dark', primaryOnly, 'eu'),
        (error: RouterError) => error instanceof RouterError && error.sqlstate === '57P03',
      );
  });
});
