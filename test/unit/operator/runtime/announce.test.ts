/** What people are told of a change, and what they aren't. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pino } from 'pino';
import type { Condition, Finding } from '#kube/conditions.ts';
import type { EventNote, EventRecorder } from '#kube/events.ts';
import type { KubeObject, Stored } from '#kube/objects.ts';
import { announce } from '#operator/runtime/announce.ts';
import type { ControlledObject, PlannedEvent } from '#operator/runtime/controller.ts';

const condition = (type: string, status: Condition['status'], reason: string): Condition => ({
  type,
  status,
  reason,
  message: `${type} ${reason}`,
  lastTransitionTime: '2026-01-01T00:00:00Z',
});
const object = (phase: string | undefined, conditions: readonly Condition[]): Stored<ControlledObject> => ({
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'Shard',
  metadata: { namespace: 'a', name: 's', uid: 'u', resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
  status: { phase, conditions },
});

function told(
  before: Stored<ControlledObject>,
  after: Stored<ControlledObject>,
  findings: readonly Finding[] = [],
  events: readonly PlannedEvent[] = [],
): { readonly events: string[]; readonly levels: string[] } {
  const notes: string[] = [];
  const levels: string[] = [];
  const recorder = {
    record: (_about: Stored<KubeObject>, note: EventNote) =>
      void notes.push(`${note.type} ${note.reason}: ${note.message}`),
  } as unknown as EventRecorder;
  const stream = { write: (line: string) => void levels.push((JSON.parse(line) as { level: string }).level) };
  const log = pino({ formatters: { level: (level) => ({ level }) } }, stream);
  announce(before, after, { findings, events }, log, recorder);
  return { events: notes, levels };
}

describe('announcing', () => {
  it('says nothing where nothing changed', () => {
    const same = object('Ready', [condition('Ready', 'True', 'AllWell')]);
    assert.deepEqual(told(same, same), { events: [], levels: [] });
  });

  it('tells a change of phase and of a condition, one line and one Event each', () => {
    const before = object('Pending', [condition('Ready', 'False', 'Waiting'), condition('Other', 'True', 'Fine')]);
    const after = object('Ready', [condition('Ready', 'True', 'AllWell'), condition('Other', 'True', 'Fine')]);
    assert.deepEqual(told(before, after), {
      events: ['Normal Ready: phase is Ready, was Pending', 'Normal AllWell: Ready is True: Ready AllWell'],
      levels: ['info', 'info'],
    });
  });

  it('of a new object tells only whether it is ready, and what is wrong', () => {
    const after = object(undefined, [
      condition('Ready', 'False', 'Waiting'),
      condition('RegionKnown', 'True', 'Found'),
      condition('KeyspaceKnown', 'False', 'NotFound'),
    ]);
    const wrong: Finding = { type: 'KeyspaceKnown', status: 'False', reason: 'NotFound', message: 'm', warning: true };
    assert.deepEqual(told(object(undefined, []), after, [wrong]).events, [
      'Normal Waiting: Ready is False: Ready Waiting',
      'Warning NotFound: KeyspaceKnown is False: KeyspaceKnown NotFound',
    ]);
  });

  it('passes a controller’s own Events on, warnings as warnings', () => {
    const same = object('Ready', []);
    const result = told(same, same, [], [{ type: 'Warning', reason: 'PasswordLost', message: 'made a new one' }]);
    assert.deepEqual(result, { events: ['Warning PasswordLost: made a new one'], levels: ['warn'] });
  });
});
