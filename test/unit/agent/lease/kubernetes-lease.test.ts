import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decideLease } from '#agent/lease/kubernetes-lease.ts';

const held = (
  holderIdentity: string | null,
  leaseTransitions: number | null,
  leaseDurationSeconds: number | null = 15,
) => ({
  metadata: { resourceVersion: '1' },
  spec: { holderIdentity, leaseTransitions, leaseDurationSeconds },
});

describe('the Kubernetes Lease as it is found', () => {
  for (const [name, lease, unchangedMs, expected] of [
    ['there is none', undefined, 0, 'Write'],
    ['it says nothing', { metadata: { resourceVersion: '1' } }, 0, 'Write'],
    ['nobody holds it', held('', 4), 0, 'Write'],
    ['nobody holds it, and fields are null', held(null, null, null), 0, 'Write'],
    ['it is ours', held('me/1', 4), 0, 'Write'],
    ['it was handed to us by whoever decided', held('me/1', 3), 0, 'Write'],
    ['an earlier epoch has it', held('other/1', 3), 0, 'Write'],
    ['another has it at this epoch', held('other/1', 4), 15_000, 'Wait'],
    ['our own earlier life has it', held('me/0', 4), 1_000, 'Wait'],
    ['another had it and has been silent for its time', held('other/1', 4), 15_001, 'Write'],
    ['another is silent and takes longer', held('other/1', 4, 60), 59_000, 'Wait'],
    ['another says that it takes no time', held('other/1', 4, 0), 14_000, 'Wait'],
    ['a later epoch has it', held('other/1', 5), 99_999, 'Lost'],
    ['a later epoch gave it up', held('', 5), 99_999, 'Lost'],
    ['it is ours, of a later epoch', held('me/1', 5), 0, 'Lost'],
  ] as const) {
    it(`${expected}: ${name}`, () => {
      assert.equal(decideLease(lease, { holder: 'me/1', epoch: 4 }, unchangedMs).kind, expected);
    });
  }
});
