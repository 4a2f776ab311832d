/**
 * Rolling changes: whose pod to replace, or whose Postgres to restart, next. Pure.
 * Followers first, one at a time, each only while all others are well; then the primary, which waits until authority can move.
 * A pod that doesn't get to run is replaced at once, whoever it is: that can only help (a wrong image that was put right).
 * A volume that is marked for deletion goes with its pod: a member that counts keeps its pod until the record has let it go,
 * and gets a new one, for a new volume, after that. One that doesn't count can't join before it has another volume: where the
 * gate of a primary waits for it, it gets that at once.
 * Invariant: nothing that runs is stopped while the primary isn't open, or doesn't answer: nobody knows then who streams, and
 * those that run are the ones to take over. (Who doesn't count never takes over.)
 */
import { createHash } from 'node:crypto';
import { type MemberView, statusOf } from './members.ts';

export interface RolloutInput {
  readonly views: readonly MemberView[];
  /** Undefined before the first start. */
  readonly primary: string | undefined;
  readonly primaryIsOpen: boolean;
  /** It runs behind its gate, and those who count are too few to open it. */
  readonly gateWaitsForMore: boolean;
  readonly isStreaming: (view: MemberView) => boolean;
  /** The record lists it: commits may rest on what its volume holds. */
  readonly isCounted: (view: MemberView) => boolean;
  /** `nonceOfParameters` of what the Shard says now. */
  readonly targetNonce: string;
}

export interface Rollout {
  /** Pods to delete now, for their StatefulSet to make them anew. */
  readonly replace: readonly MemberView[];
  /** The member whose Postgres restarts now, by getting the new nonce. */
  readonly restart: MemberView | undefined;
  /** Held: nothing can be done until a member whose volume is marked for deletion doesn't count any more. */
  readonly state: 'Done' | 'Rolling' | 'PrimaryWaits' | 'Held';
  readonly message: string;
}

/** The nonce with which a Postgres runs that has these parameters. */
export function nonceOfParameters(parameters: Readonly<Record<string, string>>): string {
  const entries = Object.entries(parameters).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(entries)).digest('hex').slice(0, 12);
}

/**
 * The nonce to order: what the member was ordered before, until its turn comes. What its Postgres says doesn't count: one that
 * can't be asked for a moment (a busy primary) must not be taken for one that is down, and restarted.
 */
export function nonceOf(view: MemberView, rollout: Pick<Rollout, 'restart'>, target: string): string {
  return rollout.restart?.name === view.name ? target : (statusOf(view)?.orders?.restartNonce ?? target);
}

export function planRollout(input: RolloutInput): Rollout {
  const idle = input.views.filter(
    (view) => view.pod?.outdated === true && view.pod.idle && !view.pod.ending && !mustKeepPod(view, input),
  );
  if (idle.length > 0)
    return {
      replace: idle,
      restart: undefined,
      state: 'Rolling',
      message: `replacing ${namesOf(idle)}, which did not get to run`,
    };
  const barred = input.gateWaitsForMore
    ? input.views.filter((view) => view.volumeGoing && view.pod?.ending === false && needsNewPod(view, input))
    : [];
  if (barred.length > 0)
    return {
      replace: barred,
      restart: undefined,
      state: 'Rolling',
      message: `replacing ${namesOf(barred)}, which can join only with another volume`,
    };
  const due = input.views.filter((view) => isDue(view, input));
  const kept = input.views.filter((view) => view.pod?.outdated === true && mustKeepPod(view, input));
  if (due.length === 0)
    return kept.length === 0
      ? done
      : {
          ...done,
          state: 'Held',
          message: `${namesOf(kept)} keeps its pod, with which its volume would go, while it counts`,
        };
  const followers = due.filter(({ name }) => name !== input.primary);
  const next = followers[0];
  if (next === undefined)
    return {
      replace: [],
      restart: undefined,
      state: 'PrimaryWaits',
      message: `all followers have the new settings; ${namesOf(due)} keeps the old ones until authority moves away from it`,
    };
  const unwell = input.views.filter(
    (view) => view.declared && view.name !== next.name && view.name !== input.primary && !isWell(view, input),
  );
  // Before the first start nobody is well, and there is nothing to lose.
  const isEmpty = input.primary === undefined;
  const mayStop = isEmpty || input.primaryIsOpen;
  // An unwell follower that is itself due goes first, if its pod isn't ready either: one that only doesn't stream may be about
  // to, and everybody waits for it to recover.
  const hopeless = unwell.find((view) => view.pod?.ready === false && isDue(view, input));
  const first = mayStop ? (hopeless ?? (isEmpty || unwell.length === 0 ? next : undefined)) : undefined;
  const progress = `${namesOf(followers)} and then ${input.primary ?? 'the primary'} get the new settings`;
  if (first === undefined)
    return {
      replace: [],
      restart: undefined,
      state: 'Rolling',
      message: `${progress}; waiting for ${mayStop ? namesOf(unwell) : (input.primary ?? '')}`,
    };
  return needsNewPod(first, input)
    ? { replace: [first], restart: undefined, state: 'Rolling', message: `${progress}; replacing ${first.name}` }
    : { replace: [], restart: first, state: 'Rolling', message: `${progress}; restarting ${first.name}` };
}

const done: Rollout = {
  replace: [],
  restart: undefined,
  state: 'Done',
  message: 'every member has the newest settings',
};

function isDue(view: MemberView, input: RolloutInput): boolean {
  const { pod } = view;
  if (pod === undefined || pod.ending) return false;
  if (needsNewPod(view, input)) return true;
  const status = statusOf(view);
  // One that was ordered to restart for these settings, and still says so, would not be helped by another restart.
  return status?.postgres?.pendingRestart === true && status.orders?.restartNonce !== input.targetNonce;
}

/** A pod that doesn't get to run doesn't hold its volume: that is about to go, or waits for somebody else. */
const needsNewPod = (view: MemberView, input: RolloutInput): boolean =>
  view.pod !== undefined &&
  (view.pod.outdated || (view.volumeGoing && view.declared && !view.pod.idle)) &&
  !mustKeepPod(view, input);

const mustKeepPod = (view: MemberView, { isCounted }: RolloutInput): boolean => view.volumeGoing && isCounted(view);

const isWell = (view: MemberView, { isStreaming }: RolloutInput): boolean =>
  view.pod !== undefined && view.pod.ready && !view.pod.ending && isStreaming(view);

const namesOf = (views: readonly MemberView[]): string => views.map(({ name }) => name).join(', ');
