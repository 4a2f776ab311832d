/**
 * Tells people what changed: one log line and one Event for each transition of phase or condition, and a controller's own Events.
 */
import type { Logger } from 'pino';
import { transitions } from '#kube/conditions.ts';
import type { EventRecorder } from '#kube/events.ts';
import type { Stored } from '#kube/objects.ts';
import type { ControlledObject } from './controller.ts';
import type { Announcement } from './round.ts';

export function announce(
  before: Stored<ControlledObject>,
  after: Stored<ControlledObject>,
  { findings, events }: Announcement,
  log: Logger,
  recorder: EventRecorder,
): void {
  const from = before.status?.phase;
  const to = after.status?.phase;
  if (to !== undefined && from !== to) {
    log.info({ phase: to, from }, 'phase');
    recorder.record(after, {
      type: 'Normal',
      reason: to,
      action: 'PhaseChanged',
      message: from === undefined ? `phase is ${to}` : `phase is ${to}, was ${from}`,
    });
  }
  for (const change of transitions(before.status?.conditions ?? [], after.status?.conditions ?? [])) {
    const { type, status, reason, message } = change.after;
    const isWarning = findings.find((finding) => finding.type === type)?.warning === true;
    // A first finding is no transition: of a new object only what is wrong is news, and whether it is ready.
    if (change.before === undefined && !isWarning && type !== 'Ready') {
      log.debug({ condition: type, status, reason }, message);
      continue;
    }
    log[isWarning ? 'warn' : 'info']({ condition: type, status, reason, was: change.before?.reason }, message);
    recorder.record(after, {
      type: isWarning ? 'Warning' : 'Normal',
      reason,
      action: type,
      message: `${type} is ${status}: ${message}`,
    });
  }
  for (const event of events) {
    log[event.type === 'Warning' ? 'warn' : 'info']({ event: event.reason }, event.message);
    recorder.record(after, event);
  }
}
