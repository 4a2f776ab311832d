/** Conditions and their transitions. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Finding, isTrue, sameStatus, setConditions, transitions } from '#kube/conditions.ts';

const ready = (status: Finding['status'], reason: string, message = 'm'): Finding => ({
  type: 'Ready',
  status,
  reason,
  message,
});
const at = (second: number): { now: Date } => ({ now: new Date(Date.UTC(2026, 0, 1, 0, 0, second, 123)) });

describe('conditions', () => {
  it('lastTransitionTime moves with the status, not with reason or message', () => {
    const first = setConditions([], [ready('False', 'Starting')], at(1));
    const second = setConditions(first, [ready('False', 'Waiting', 'still')], at(2));
    const third = setConditions(second, [ready('True', 'Ready')], at(3));
    assert.deepEqual(
      [first, second, third].map(([condition]) => condition?.lastTransitionTime),
      ['2026-01-01T00:00:01Z', '2026-01-01T00:00:01Z', '2026-01-01T00:00:03Z'],
    );
    assert.equal(second[0]?.message, 'still');
    assert.ok(isTrue(third, 'Ready') && !isTrue(first, 'Ready') && !isTrue(undefined, 'Ready'));
  });

  it('equal findings give an equal status, so that nothing is written', () => {
    const first = setConditions([], [ready('True', 'Ready')], { ...at(1), observedGeneration: 3 });
    assert.ok(
      sameStatus(
        { conditions: first },
        { conditions: setConditions(first, [ready('True', 'Ready')], { ...at(9), observedGeneration: 3 }) },
      ),
    );
    assert.ok(
      !sameStatus(
        { conditions: first },
        { conditions: setConditions(first, [ready('True', 'Ready')], { ...at(9), observedGeneration: 4 }) },
      ),
    );
  });

  it('conditions that no finding names stay, in their places', () => {
    const present = setConditions([], [ready('True', 'Ready'), { ...ready('True', 'Fine'), type: 'Other' }], at(1));
    assert.deepEqual(
      setConditions(present, [{ ...ready('False', 'No'), type: 'Other' }], at(2)).map(({ type }) => type),
      ['Ready', 'Other'],
    );
  });

  it('a change of status or reason is a transition, another message is not', () => {
    const before = setConditions([], [ready('False', 'Starting')], at(1));
    assert.equal(
      transitions(before, setConditions(before, [ready('False', 'Starting', 'new words')], at(2))).length,
      0,
    );
    assert.equal(transitions(before, setConditions(before, [ready('False', 'Waiting')], at(2))).length, 1);
    assert.equal(transitions([], before).length, 1);
  });

  it('an absent field equals an undefined one', () => {
    assert.ok(sameStatus({ phase: 'Ready' }, { phase: 'Ready', region: undefined }));
    assert.ok(!sameStatus(undefined, {}));
  });
});
