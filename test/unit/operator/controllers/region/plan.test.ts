import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type PrimaryHere, planRegion, type RegionSnapshot } from '#operator/controllers/region/plan.ts';

function snapshot(
  over: Partial<Omit<RegionSnapshot, 'region'>> = {},
  spec: Partial<RegionSnapshot['region']['spec']> = {},
): RegionSnapshot {
  return {
    region: {
      apiVersion: 'meridian.db/v1alpha1',
      kind: 'Region',
      metadata: {
        name: 'eu',
        namespace: 'prod',
        uid: 'u',
        resourceVersion: '1',
        creationTimestamp: '2026-01-01T00:00:00Z',
      },
      spec: { proximity: [], drain: false, ...spec },
    },
    nodes: 2,
    regions: ['eu', 'us'],
    primaries: [],
    ...over,
  };
}

const primary = (shard: string, over: Partial<PrimaryHere> = {}): PrimaryHere => ({
  shard,
  isMoving: false,
  hasElsewhere: true,
  obstacle: undefined,
  ...over,
});

const condition = (plan: ReturnType<typeof planRegion>, type: string) =>
  plan.conditions?.find((finding) => finding.type === type);

const cases: readonly {
  readonly behaviour: string;
  readonly snapshot: RegionSnapshot;
  readonly phase: string;
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: RegExp;
}[] = [
  {
    behaviour: 'with nodes it is ready',
    snapshot: snapshot(),
    phase: 'Ready',
    type: 'NodesFound',
    status: 'True',
    reason: 'NodesFound',
    message: /2 nodes have the labels topology.kubernetes.io\/region=eu/,
  },
  {
    behaviour: 'without nodes it says which labels are looked for',
    snapshot: snapshot({ nodes: 0 }, { nodeSelector: { zone: 'x', disk: 'ssd' } }),
    phase: 'NoNodes',
    type: 'Ready',
    status: 'False',
    reason: 'NoNodes',
    message: /zone=x,disk=ssd/,
  },
  {
    behaviour: 'where nodes may not be listed it does not know, and is usable',
    snapshot: snapshot({ nodes: undefined }),
    phase: 'Ready',
    type: 'NodesFound',
    status: 'Unknown',
    reason: 'NodesForbidden',
    message: /may not list nodes/,
  },
  {
    behaviour: 'a region nobody declared in proximity is named',
    snapshot: snapshot({}, { proximity: ['us', 'mars'] }),
    phase: 'Ready',
    type: 'ProximityKnown',
    status: 'False',
    reason: 'UnknownRegion',
    message: /names mars: make a Region/,
  },
  {
    behaviour: 'known neighbours are fine',
    snapshot: snapshot({}, { proximity: ['us'] }),
    phase: 'Ready',
    type: 'ProximityKnown',
    status: 'True',
    reason: 'AllKnown',
    message: /./,
  },
  {
    behaviour: 'while it is drained, what is left is named, the most important first',
    snapshot: snapshot({ primaries: [primary('b', { isMoving: true }), primary('a')] }, { drain: true }),
    phase: 'Draining',
    type: 'Drained',
    status: 'False',
    reason: 'Moving',
    message: /^2 primaries are still here: b is handing over; a is next/,
  },
  {
    behaviour: 'a drain that is held up says by what',
    snapshot: snapshot(
      { primaries: [primary('a', { obstacle: 'a-us-0 is 5 bytes behind' }), primary('b', { hasElsewhere: false })] },
      { drain: true },
    ),
    phase: 'Draining',
    type: 'Drained',
    status: 'False',
    reason: 'SomeStay',
    message: /a can't move yet \(a-us-0 is 5 bytes behind\); b stays/,
  },
  {
    behaviour: 'draining the last region with promotable members is refused',
    snapshot: snapshot(
      { primaries: [primary('a', { hasElsewhere: false }), primary('b', { hasElsewhere: false })] },
      { drain: true },
    ),
    phase: 'DrainRefused',
    type: 'Drained',
    status: 'False',
    reason: 'LastRegion',
    message: /^refused: no other region that isn't drained has a promotable member of a, b/,
  },
  {
    behaviour: 'primaries in a region that is not drained are nothing to say',
    snapshot: snapshot({ primaries: [primary('a', { hasElsewhere: false })] }),
    phase: 'Ready',
    type: 'Drained',
    status: 'False',
    reason: 'NotRequested',
    message: /primaries may be here/,
  },
  {
    behaviour: 'a drained region says so',
    snapshot: snapshot({}, { drain: true }),
    phase: 'Drained',
    type: 'Drained',
    status: 'True',
    reason: 'Drained',
    message: /./,
  },
];

describe('the status of a Region', () => {
  for (const { behaviour, snapshot: seen, phase, type, status, reason, message } of cases)
    test(behaviour, () => {
      const plan = planRegion(seen);
      assert.equal(plan.status?.phase, phase);
      const found = condition(plan, type);
      assert.equal(found?.status, status);
      assert.equal(found.reason, reason);
      assert.match(found.message, message);
    });

  test('counts nodes and primaries, and no nodes where it may not know', () => {
    assert.deepEqual(planRegion(snapshot({ primaries: [primary('a')] })).status, {
      phase: 'Ready',
      nodes: 2,
      primaries: 1,
    });
    assert.deepEqual(planRegion(snapshot({ nodes: undefined })).status, { phase: 'Ready', primaries: 0 });
  });
});
