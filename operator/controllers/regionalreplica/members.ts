/**
 * The members of a RegionalReplica for its status: who they are, where they are, what their Postgres does. Pure.
 * Invariants: it changes with the pod and with what Postgres is, never with lag; an agent that doesn't answer us while its pod
 * is ready changes nothing, since routers go by this and our own view of the network isn't theirs.
 */

import type { AgentStatus } from '#core/protocol/status.ts';
import type { RegionalReplicaMember } from '#crds/index.ts';
import type { Pod } from '#kube/kinds.ts';
import type { StatusAnswer } from '../../agents/client.ts';

/** @param primary Who has authority by the record. */
export function memberStatuses(
  pods: readonly Pod[],
  answers: ReadonlyMap<string, StatusAnswer>,
  before: readonly RegionalReplicaMember[],
  primary: string | undefined,
): RegionalReplicaMember[] {
  return pods.map((pod) => {
    const known = before.find((member) => member.name === pod.metadata.name);
    // A primary that fell silent before a failover was one; what it is now nobody knows.
    const isPast = known?.role === 'primary' && known.name !== primary;
    return memberStatus(pod, answers.get(pod.metadata.name), isPast ? { ...known, role: 'none' } : known);
  });
}

function memberStatus(
  pod: Pod,
  answer: StatusAnswer | undefined,
  known: RegionalReplicaMember | undefined,
): RegionalReplicaMember {
  const address = pod.status?.podIP;
  const place = { name: pod.metadata.name, ...(address === undefined ? {} : { address }) };
  if (answer?.kind === 'status')
    return {
      ...place,
      incarnation: answer.status.member.incarnation,
      phase: isEnding(pod) ? 'Terminating' : answer.status.phase,
      role: roleOf(answer.status),
    };
  // The volume outlives the pod, and so does the identity on it.
  const identity = known?.incarnation === undefined ? {} : { incarnation: known.incarnation };
  if (isReady(pod) && known !== undefined && known.address === address && !isEnding(pod))
    return { ...place, ...identity, phase: known.phase, role: known.role };
  return { ...place, ...identity, phase: phaseOfPod(pod), role: 'none' };
}

function roleOf({ phase, postgres }: AgentStatus): RegionalReplicaMember['role'] {
  if (postgres?.running !== true) return 'none';
  if (postgres.inRecovery) return phase === 'Following' ? 'follower' : 'none';
  return postgres.open ? 'primary' : 'none';
}

const isEnding = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;

export const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;

function phaseOfPod(pod: Pod): string {
  if (isEnding(pod)) return 'Terminating';
  return pod.status?.phase === 'Running' ? 'Unreachable' : 'Pending';
}

/** Why a pod isn't ready, in a sentence for people; undefined when it is. */
export function podProblem(pod: Pod, answer: StatusAnswer | undefined): string | undefined {
  const { name } = pod.metadata;
  if (isEnding(pod)) return `${name} is ending`;
  if (isReady(pod)) return undefined;
  const scheduling = pod.status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False');
  if (scheduling !== undefined)
    return `${name} has no node: ${shortened(scheduling.message ?? scheduling.reason ?? 'unknown')}`;
  const waiting = pod.status?.containerStatuses?.find(({ state }) => state?.waiting !== undefined)?.state?.waiting;
  if (waiting !== undefined)
    return `${name} waits: ${shortened([waiting.reason, waiting.message].filter((text) => text !== undefined).join(': '))}`;
  if (answer?.kind === 'status')
    return `${name} is ${answer.status.phase}${answer.status.problem === '' ? '' : `: ${answer.status.problem}`}`;
  return `${name} does not answer${answer === undefined ? '' : `: ${answer.why}`}`;
}

/** Kubelets write whole chains of errors; their beginning says what is wrong. */
const shortened = (text: string): string => (text.length <= 160 ? text : `${text.slice(0, 159)}…`);
