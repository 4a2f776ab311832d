import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderConfiguration } from '#agent/member/configuration.ts';
import { isAnotherWork } from '#agent/member/work.ts';
import { memberPaths } from '#core/names.ts';
import { ordersWith, other, source, third } from '../orders/orders-fixture.ts';

const agent = {
  paths: memberPaths,
  ports: { postgres: 5432, api: 8420, tunnel: 8421, lease: 8423, http: 8422 },
  runTls: '/run/meridian/tls',
  runConfiguration: '/run/meridian/configuration',
};
const render = (wish: Parameters<typeof ordersWith>[0], accepted = {}, limits = {}) =>
  renderConfiguration(ordersWith(wish), accepted, limits, agent);

describe('the configuration of a member', () => {
  it('names the acknowledgers on every member, and never none where one is needed', () => {
    const two = render({ synchronous: { acknowledgements: 1, members: [other, third] } }).parametersFile;
    assert.match(two, /synchronous_standby_names = 'ANY 1 \("b-0\/bbbbbbbbbbbbbbbb", "c-0\/cccccccccccccccc"\)'/);
    const none = render({ role: 'Primary', synchronous: { acknowledgements: 2, members: [] } }).parametersFile;
    assert.match(none, /synchronous_standby_names = 'ANY 2 \("nobody\/0000000000000000"\)'/);
    assert.match(render({}).parametersFile, /synchronous_standby_names = ''/);
  });

  it('leads a follower to its own agent, and a primary nowhere', () => {
    const follower = render({}).parametersFile;
    assert.match(
      follower,
      /primary_conninfo = 'host=''\/run\/meridian\/upstream'' port=''5432'' user=''meridian_replication'' dbname=''shop''/,
    );
    assert.match(follower, /primary_slot_name = 'member_aaaaaaaaaaaaaaaa'/);
    assert.doesNotMatch(render({ role: 'Primary' }).parametersFile, /primary_conninfo/);
  });

  it('gives a follower at least what its primary had, and a primary what the Shard says', () => {
    const limits = { max_connections: 500, max_wal_senders: 8 };
    assert.match(render({}, { max_connections: '300' }, limits).parametersFile, /max_connections = '500'/);
    assert.match(render({}, { max_connections: '600' }, limits).parametersFile, /max_connections = '600'/);
    assert.match(
      render({ role: 'Primary' }, { max_connections: '300' }, limits).parametersFile,
      /max_connections = '300'/,
    );
    assert.match(render({}, {}, limits).parametersFile, /max_wal_senders = '128'/);
  });

  it('has another digest exactly when something that Postgres reads is different', () => {
    const digest = render({}).digest;
    assert.equal(render({ sequence: 9, slots: [third], generation: 7 }).digest, digest);
    assert.notEqual(render({}, { work_mem: '8MB' }).digest, digest);
    assert.notEqual(render({ synchronous: { acknowledgements: 1, members: [other] } }).digest, digest);
  });
});

describe('what the agent is in the middle of', () => {
  it('goes on when only lists, parameters or numbers change, and when Initialise becomes Primary', () => {
    assert.equal(isAnotherWork(ordersWith({}), ordersWith({ sequence: 2, slots: [], generation: 3 })), false);
    assert.equal(isAnotherWork(ordersWith({ role: 'Initialise' }), ordersWith({ role: 'Primary' })), false);
  });
  it('ends when role, epoch or source change', () => {
    assert.equal(isAnotherWork(ordersWith({}), ordersWith({ role: 'Hold' })), true);
    assert.equal(isAnotherWork(ordersWith({}), ordersWith({ epoch: 2 })), true);
    assert.equal(isAnotherWork(ordersWith({}), ordersWith({ source: { ...source, address: '10.0.0.9' } })), true);
  });
});
