/** What a Shard says and does in single situations; how it gets along over time is in `interrupted.test.ts`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conclude } from '#operator/controllers/shard/index.ts';
import { plan } from '#operator/controllers/shard/plan.ts';
import type { Snapshot } from '#operator/controllers/shard/snapshot.ts';
import { Operator } from './simulated-operator.ts';
import { World } from './world.ts';

const names = ['a-eu-0', 'a-us-0', 'a-ap-0'];
const now = new Date('2026-01-01T00:10:00Z');

function ready(): { readonly world: World; readonly operator: Operator } {
  const world = new World();
  for (const name of names) world.addMember(name);
  const operator = new Operator(world, 1);
  for (let round = 0; round < 20; round += 1) {
    world.tick();
    operator.round();
  }
  assert.equal(world.shard.status?.phase, 'Ready');
  return { world, operator };
}

const find = (snapshot: Snapshot, type: string) =>
  plan(snapshot, now).conditions?.find((condition) => condition.type === type);
const kinds = (snapshot: Snapshot): string[] => plan(snapshot, now).actions.map(({ kind }) => kind);

const deleting = (snapshot: Snapshot): Snapshot => ({
  ...snapshot,
  shard: {
    ...snapshot.shard,
    metadata: { ...snapshot.shard.metadata, deletionTimestamp: '2026-01-01T00:09:00Z' },
  },
});

test('the same snapshot gives the same plan', () => {
  const snapshot = ready().operator.observe();
  assert.deepEqual(plan(snapshot, now), plan(snapshot, now));
});

test('a shard that is well only keeps its budget and policies, and rests', () => {
  const snapshot = ready().operator.observe();
  assert.deepEqual(kinds(snapshot), ['ApplyBudget', 'ApplyPolicy', 'ApplyPolicy']);
  assert.equal(plan(snapshot, now).requeueAfterMs, 5_000);
  assert.equal(find(snapshot, 'Ready')?.status, 'True');
  assert.equal(find(snapshot, 'WouldBlock')?.status, 'False');
});

test('deletion is held while tenants are owned, names them, and the shard serves on', () => {
  const { world, operator } = ready();
  world.member('a-us-0').orders = undefined;
  const held = deleting({ ...operator.observe(), ownedTenants: ['acme', 'bolt', 'corp', 'dyno', 'echo', 'fizz'] });
  assert.equal(plan(held, now).release, undefined);
  assert.equal(plan(held, now).status?.phase, 'Deleting');
  assert.match(
    find(held, 'DeletionAllowed')?.message ?? '',
    /still owns 6 tenants: acme, bolt, corp, dyno, echo and 1 more/,
  );
  assert.deepEqual(kinds(held), ['SendOrders'], 'members still get their orders, and nothing new is made');
});

test('a shard that is being deleted keeps its record in a round that decides nothing', () => {
  const held = deleting({ ...ready().operator.observe(), ownedTenants: ['acme'], isOutdated: true });
  assert.equal(plan(held, now).status, undefined, 'a status is written whole');
});

test('a shard goes in order: members first, then volumes by its policy', () => {
  const snapshot = deleting(ready().operator.observe());
  const stopping = plan({ ...snapshot, statefulSets: ['a-eu'] }, now);
  assert.equal(stopping.release, undefined);
  assert.equal(stopping.conditions?.find(({ type }) => type === 'DeletionAllowed')?.status, 'True');
  const claims = [{ name: 'data-a-eu-0', uid: 'volume-1' }];
  const kept = plan({ ...snapshot, claims }, now);
  assert.deepEqual([kept.release, kept.actions], [true, []]);
  const spec = { ...snapshot.shard.spec, deletionPolicy: 'Delete' as const };
  const removed = plan({ ...snapshot, shard: { ...snapshot.shard, spec }, claims }, now);
  assert.deepEqual(removed.actions, [{ kind: 'DeleteClaim', name: 'data-a-eu-0', uid: 'volume-1' }]);
});

test('a follower that was away gets its orders when the address of the primary is known again', () => {
  const { world, operator } = ready();
  world.member('a-us-0').orders = undefined;
  world.member('a-eu-0').reachable = false;
  const action = plan(operator.observe(), now).actions.find(({ kind }) => kind === 'SendOrders');
  assert.ok(action?.kind === 'SendOrders' && action.member === 'a-us-0');
  assert.equal(action.orders.source?.address, '10.0.0.a-eu-0', 'the primary is silent to us, not to its follower');
  const lost = operator.observe();
  const views = lost.views.map((view) =>
    view.name === 'a-eu-0' && view.pod !== undefined ? { ...view, pod: { ...view.pod, address: undefined } } : view,
  );
  assert.ok(!kinds({ ...lost, views }).includes('SendOrders'));
});

test('a member that copies keeps its slot while it is silent, with this operator and with the next', () => {
  const { world, operator } = ready();
  const joining = world.addMember('a-us-1');
  operator.round();
  const slot = (): string | undefined =>
    world.member('a-eu-0').orders?.slots.find(({ name }) => name === 'a-us-1')?.incarnation;
  assert.equal(slot(), joining.incarnation);
  joining.reachable = false;
  operator.round();
  assert.equal(slot(), joining.incarnation, 'before anybody else has written down who it is');
  joining.reachable = true;
  world.tick();
  joining.reachable = false;
  new Operator(world, 2).round();
  assert.equal(slot(), joining.incarnation, 'by what its RegionalReplica says');
});

test('a member with a new volume keeps its new slot, though its RegionalReplica still says the former one', () => {
  const { world, operator } = ready();
  world.wipe('a-us-0');
  operator.round();
  const { incarnation, published } = world.member('a-us-0');
  assert.notEqual(incarnation, published);
  world.member('a-us-0').reachable = false;
  operator.round();
  assert.ok(world.member('a-eu-0').orders?.slots.some((slot) => slot.incarnation === incarnation));
});

test('a member of another shard gets no slot by being silent', () => {
  const { world, operator } = ready();
  const stranger = world.addMember('a-us-1');
  stranger.promise = { ...stranger.promise, shardUid: 'an older shard', epoch: 1 };
  world.tick();
  operator.round();
  stranger.reachable = false;
  operator.round();
  assert.ok(!world.member('a-eu-0').orders?.slots.some(({ name }) => name === 'a-us-1'));
});

test('a new leader says everything again, so that what the old one still sends is refused', () => {
  const { world } = ready();
  const sent = plan(new Operator(world, 2).observe(), now).actions.filter(({ kind }) => kind === 'SendOrders');
  assert.equal(sent.length, 3);
});

test('a leader whom the members have outgrown sends nothing and says why', () => {
  const { world } = ready();
  new Operator(world, 7).round();
  const snapshot = new Operator(world, 3).observe();
  assert.ok(!kinds(snapshot).includes('SendOrders'));
  assert.equal(find(snapshot, 'OrdersTaken')?.reason, 'HigherTerm');
});

test('a member that promised another shard is never ordered', () => {
  const { world, operator } = ready();
  const us = world.member('a-us-0');
  us.orders = undefined;
  us.promise = { ...us.promise, shardUid: 'an older shard' };
  assert.ok(!kinds(operator.observe()).includes('SendOrders'));
});

test('the primary that has another volume is not used, and nobody is told to follow it', () => {
  const { world, operator } = ready();
  world.wipe('a-eu-0');
  const snapshot = operator.observe();
  assert.equal(find(snapshot, 'PrimaryAvailable')?.reason, 'VolumeReplaced');
  assert.equal(find(snapshot, 'Ready')?.reason, 'VolumeReplaced');
  const ordered = plan(snapshot, now).actions.filter(({ kind }) => kind === 'SendOrders');
  assert.ok(!ordered.some((action) => action.kind === 'SendOrders' && action.member === 'a-eu-0'));
});

test('conditions tell before it hurts: one follower too few to lose, then commits that wait', () => {
  const { world, operator } = ready();
  world.member('a-us-0').reachable = false;
  assert.equal(find(operator.observe(), 'WouldBlock')?.reason, 'NoSpareFollower');
  world.member('a-ap-0').reachable = false;
  const snapshot = operator.observe();
  assert.equal(find(snapshot, 'Durable')?.reason, 'WritesWait');
  assert.match(find(snapshot, 'Durable')?.message ?? '', /a-ap-0: no answer within/);
  assert.equal(find(snapshot, 'Ready')?.status, 'False');
  assert.equal(plan(snapshot, now).status?.phase, 'WritesWait');
});

test('a missing Keyspace or Region does not make a shard that serves unready', () => {
  const snapshot: Snapshot = { ...ready().operator.observe(), regions: [] };
  assert.equal(find(snapshot, 'RegionKnown')?.reason, 'NoSuchRegion');
  assert.equal(find(snapshot, 'Ready')?.status, 'True');
});

test('before there is authority, what is missing is what keeps it from being ready', () => {
  const world = new World();
  const snapshot: Snapshot = { ...new Operator(world, 1).observe(), keyspace: undefined };
  assert.equal(find(snapshot, 'Ready')?.reason, 'NoSuchKeyspace');
  assert.equal(find(snapshot, 'Initialised')?.reason, 'NoMembers');
  assert.equal(find(snapshot, 'AcknowledgementsPossible')?.reason, 'TooFewMembers');
  assert.equal(plan(snapshot, now).status?.phase, 'Waiting');
});

test('a pod that never ran is replaced at once, also when it is to be the primary', () => {
  const world = new World();
  world.addMember('a-eu-0');
  const snapshot = new Operator(world, 1).observe();
  const views = snapshot.views.map((view) => ({
    ...view,
    answer: { kind: 'silent' as const, why: 'its pod has no address yet' },
    pod: view.pod && { ...view.pod, idle: true, outdated: true, ready: false, problem: 'a-eu-0 waits: ErrImagePull' },
  }));
  assert.ok(kinds({ ...snapshot, views }).includes('ReplacePod'));
  assert.match(find({ ...snapshot, views }, 'Initialised')?.message ?? '', /a-eu-0 waits: ErrImagePull/);
});

test('a follower that only does not stream is waited for; one whose pod is not ready is replaced first', () => {
  const { world, operator } = ready();
  for (const name of names) world.member(name).outdated = true;
  const withLag = (isReady: boolean): Snapshot => {
    const seen = operator.observe();
    const views = seen.views.map((view) => {
      if (view.name === 'a-us-0' && view.pod !== undefined) return { ...view, pod: { ...view.pod, ready: isReady } };
      if (view.name !== 'a-eu-0' || view.answer.kind !== 'status') return view;
      const { status } = view.answer;
      const standbys = status.standbys.filter(({ name }) => name !== 'a-us-0');
      return { ...view, answer: { ...view.answer, status: { ...status, standbys } } };
    });
    return { ...seen, views };
  };
  const replaced = (snapshot: Snapshot): string[] =>
    plan(snapshot, now).actions.flatMap((action) => (action.kind === 'ReplacePod' ? [action.name] : []));
  assert.deepEqual(replaced(withLag(true)), []);
  assert.match(find(withLag(true), 'RolloutPending')?.message ?? '', /waiting for a-us-0/);
  assert.deepEqual(replaced(withLag(false)), ['a-us-0']);
});

test('a follower that can be neither copied nor spared: the condition names what people can do', () => {
  const world = new World();
  for (const name of ['a-eu-0', 'a-us-0']) world.addMember(name);
  const operator = new Operator(world, 1);
  for (let round = 0; round < 20; round += 1) {
    world.tick();
    operator.round();
  }
  world.member('a-us-0').lacksLog = true;
  const stale = find(operator.observe(), 'MembershipSettled');
  assert.equal(stale?.reason, 'Held');
  assert.match(stale?.message ?? '', /raise instances of a RegionalReplica/);
  assert.match(stale?.message ?? '', /delete its PersistentVolumeClaim data-a-us-0 and then its pod a-us-0/);
  // It is done as the condition says; the pod comes back with a new volume.
  world.wipe('a-us-0');
  for (let round = 0; round < 20; round += 1) {
    world.tick();
    operator.round();
  }
  assert.equal(find(operator.observe(), 'MembershipSettled')?.status, 'True');
  assert.equal(world.shard.status?.phase, 'Ready');
});

test("a volume that is marked for deletion is said, the primary's most of all", () => {
  const { world, operator } = ready();
  assert.equal(find(operator.observe(), 'VolumesKept')?.status, 'True');
  world.member('a-eu-0').volumeGoing = true;
  const finding = find(operator.observe(), 'VolumesKept');
  assert.equal(finding?.reason, 'MarkedForDeletion');
  assert.match(finding?.message ?? '', /the primary a-eu-0 .* must not end/);
});

test('a refusal shows in a condition with the words of the member', () => {
  const snapshot = ready().operator.observe();
  const planned = plan(snapshot, now);
  const action = { kind: 'DeleteClaim' as const, name: 'x', uid: 'y' };
  const refusal = { code: 'WrongShard' as const, message: 'this volume belongs to another shard' };
  const result = {
    action,
    outcome: 'done' as const,
    value: { member: 'a-us-0', refusal, why: 'WrongShard: this volume' },
  };
  const concluded = conclude(snapshot, planned, [result]);
  const finding = concluded.conditions?.find(({ type }) => type === 'OrdersTaken');
  assert.equal(finding?.status, 'False');
  assert.match(finding?.message ?? '', /a-us-0 refuses its orders: WrongShard/);
});

test('a parameter that Postgres refuses is said once, with who refuses it', () => {
  const snapshot = ready().operator.observe();
  assert.equal(find(snapshot, 'ParametersAccepted')?.status, 'True');
  const problem = 'waiting for something; parameter work_mem is left out: invalid value: "lots"';
  const views = snapshot.views.map((view) =>
    view.answer.kind === 'status'
      ? { ...view, answer: { ...view.answer, status: { ...view.answer.status, problem } } }
      : view,
  );
  assert.equal(
    find({ ...snapshot, views }, 'ParametersAccepted')?.message,
    'parameter work_mem is left out: invalid value: "lots" (a-ap-0, a-eu-0, a-us-0)',
  );
});

test('an image with another version of Postgres than the shard asks for is named', () => {
  const { world, operator } = ready();
  assert.equal(find(operator.observe(), 'VersionAsWished')?.status, 'True');
  world.change({ postgres: { version: '18', parameters: {} } });
  assert.match(find(operator.observe(), 'VersionAsWished')?.message ?? '', /a-ap-0 runs 17, .*not 18/);
});
