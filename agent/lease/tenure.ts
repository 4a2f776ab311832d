/**
 * A primary's lease over time: which settings it stands by, whose grants it has, until when that holds, and what process 1
 * and the main thread are told of it. Fed by the asking side and the Kubernetes Lease; no sockets and no timers of its own.
 *
 * New settings are worked towards while the old ones hold: they come into force once they are fulfilled, so that a change of
 * membership neither ends a healthy primary nor counts anybody whom it no longer may when it is reported done.
 * Invariants: the clock is looked at before any grant is taken; what is published is never later than the deadline that
 * process 1 has; an armed lease that was lost stays lost until the handle is disarmed; a grant counts at its own epoch, for a
 * member that the settings list, from when its request was sent.
 * Source: docs/design.md, section 4, "Lease"; docs/design-traps.md, A6 to A8, A18.
 */

import { expiryOf } from '#core/authority/lease.ts';
import { leaseMarginMs, leaseMs, quitBeforeMs } from '#core/authority/timing.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { type DeadMansHandle, HandleError } from './handle.ts';
import type { LeaseMemory } from './memory.ts';
import type { GrantSeen, LeaseLog, ServeWish } from './messages.ts';
import type { LeaseGrant } from './wire.ts';

export interface TenureOptions {
  readonly memory: LeaseMemory;
  readonly handle: DeadMansHandle;
  /** Milliseconds since boot. */
  readonly now: () => number;
  /** An armed lease is about to run out, or has. */
  readonly onLost: (reason: string) => void;
  readonly log: LeaseLog;
}

interface HeldGrant {
  readonly epoch: number;
  readonly generation: number;
  readonly sentAtMs: number;
  readonly untilMs: number;
}

/** Settings that are worked towards, and since when. */
interface Next {
  readonly wish: ServeWish;
  readonly sinceMs: number;
}

/** We give up a little before process 1 does, so that it is never the first to know. */
const LOST_BEFORE_MS = quitBeforeMs + 50;
const MAX_WAITING = 8;

export class Tenure {
  readonly #options: TenureOptions;
  /** In force. */
  #present: ServeWish | undefined;
  /** Worked towards. */
  #next: Next | undefined;
  #waiting: (() => void)[] = [];
  /** The newest of each member, by `replicationName` and epoch. */
  #grants = new Map<string, HeldGrant>();
  #kubernetesUntilMs = 0;
  #number = 0;
  #wasHeld = false;
  /** Of an armed lease. */
  #isLost = false;

  constructor(options: TenureOptions) {
    this.#options = options;
  }

  /** What those who dial in are asked for: at most two, the ones in force and those that are to come. */
  get wishes(): readonly ServeWish[] {
    return [this.#next?.wish, this.#present].filter((wish) => wish !== undefined);
  }

  get isArmed(): boolean {
    return this.#options.handle.isArmed;
  }

  get needsKubernetes(): boolean {
    return this.wishes.some(({ lease }) => lease.kubernetes);
  }

  /** For people; nothing is decided by it. */
  get grantsSeen(): readonly GrantSeen[] {
    const nowMs = this.#options.now();
    return [...this.#grants].map(([key, { sentAtMs, untilMs }]) => ({
      from: key.slice(key.indexOf(' ') + 1),
      ageMs: nowMs - sentAtMs,
      remainingMs: Math.max(0, untilMs - nowMs),
    }));
  }

  /** Resolves when in force, which is at once where nothing is held now. A wish that another one has replaced never does. */
  serve(wish: ServeWish): Promise<void> {
    this.tick();
    return new Promise((resolve) => {
      const isPending = isSame(this.#next?.wish, wish);
      this.#waiting = isPending ? [...this.#waiting.slice(-MAX_WAITING), resolve] : [resolve];
      if (!isPending) this.#next = { wish, sinceMs: this.#options.now() };
      this.#evaluate();
    });
  }

  /** No lease any more. An armed handle keeps its last deadline: whoever ends the lease shows first that nothing is left. */
  end(): void {
    if (this.#present === undefined && this.#next === undefined) return;
    this.#present = undefined;
    this.#next = undefined;
    this.#waiting = [];
    this.#grants.clear();
    this.#kubernetesUntilMs = 0;
    this.#evaluate();
  }

  /** @param sentAtMs when the request that it answers was sent. */
  granted(member: MemberIdentity, grant: LeaseGrant, sentAtMs: number): void {
    this.tick();
    const wishes = this.wishes.filter(({ epoch }) => epoch === grant.epoch);
    // Old settings are fed by answers to the new ones' questions too, for as long as they are in force.
    if (!wishes.some(({ generation }) => generation === grant.generation)) return;
    if (!wishes.some((wish) => isListed(wish, member))) return;
    const key = grantKey(member, grant.epoch);
    const untilMs = sentAtMs + Math.min(grant.leaseMs, leaseMs) - leaseMarginMs;
    if (untilMs < (this.#grants.get(key)?.untilMs ?? 0)) return;
    this.#grants.set(key, { epoch: grant.epoch, generation: grant.generation, sentAtMs, untilMs });
    this.#evaluate();
  }

  /** The Kubernetes Lease is ours until then; 0: it isn't. */
  kubernetesHeldUntil(untilMs: number): void {
    this.tick();
    this.#kubernetesUntilMs = untilMs;
    this.#evaluate();
  }

  /** The deadline follows with the lease. @throws HandleError, also where a lost lease hasn't been disarmed yet. */
  arm(postmasterPid: number): void {
    this.tick();
    if (this.#isLost)
      throw new HandleError('the lease was lost: process 1 ends everything unless it is disarmed first');
    this.#options.handle.arm(this.#deadlineNow(), postmasterPid);
    this.#evaluate();
  }

  /** @throws HandleError */
  setPostmaster(pid: number): void {
    const { handle } = this.#options;
    if (handle.isArmed && !this.#isLost) handle.arm(handle.deadlineMs, pid);
  }

  /** @throws HandleError */
  disarm(): void {
    this.#options.handle.disarm();
    this.#isLost = false;
    this.#evaluate();
  }

  /** To be called often: nothing else notices that time passes. */
  tick(): void {
    if (this.#present !== undefined || this.#wasHeld) this.#evaluate();
  }

  #evaluate(): void {
    const nowMs = this.#options.now();
    this.#moveOn(nowMs);
    const untilMs = this.#present === undefined ? 0 : this.#untilOf(this.#present);
    const isHeld = this.#holds(untilMs, nowMs);
    if (this.#wasHeld && !isHeld) this.#lose(nowMs, untilMs);
    this.#wasHeld = isHeld;
    this.#publish(isHeld ? this.#renewHandle(untilMs) : 0);
  }

  /**
   * Into force with the next settings: where there is nothing to lose, or once they are fulfilled by answers to questions
   * that were asked under them. Until then the record is no laxer than the present ones, so there is no hurry.
   */
  #moveOn(nowMs: number): void {
    if (this.#next === undefined) return;
    const { wish, sinceMs } = this.#next;
    const present = this.#present;
    const mustWait = present !== undefined && !isSame(present, wish) && this.#holds(this.#untilOf(present), nowMs);
    const isAnswer = (grant: HeldGrant): boolean => grant.generation === wish.generation && grant.sentAtMs >= sinceMs;
    if (mustWait && !this.#holds(this.#untilOf(wish, isAnswer), nowMs)) return;
    this.#present = wish;
    this.#next = undefined;
    for (const [key, { epoch }] of this.#grants) {
      if (epoch !== wish.epoch || !wish.lease.members.some((member) => grantKey(member, epoch) === key)) {
        this.#grants.delete(key);
      }
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** While armed, what is left has to last for an orderly end. */
  #holds(untilMs: number | null, nowMs: number): boolean {
    if (untilMs === null) return true;
    return untilMs - nowMs > (this.#options.handle.isArmed ? LOST_BEFORE_MS : 0);
  }

  #untilOf({ lease, epoch }: ServeWish, counts: (grant: HeldGrant) => boolean = () => true): number | null {
    const granted = new Map<string, number>();
    for (const member of lease.members) {
      const grant = this.#grants.get(grantKey(member, epoch));
      if (grant !== undefined && counts(grant)) granted.set(replicationName(member), grant.untilMs);
    }
    return expiryOf(lease, granted, this.#kubernetesUntilMs);
  }

  #lose(nowMs: number, untilMs: number | null): void {
    this.#number += 1;
    const { handle, log, onLost } = this.#options;
    const leftMs = untilMs === null || untilMs === 0 ? 0 : untilMs - nowMs;
    const reason = this.#present === undefined ? 'the lease was given up' : `the lease runs out in ${leftMs} ms`;
    log.warn({ leftMs, armed: handle.isArmed, number: this.#number }, `lease: ${reason}`);
    if (!handle.isArmed) return;
    this.#isLost = true;
    onLost(reason);
  }

  /** Until when process 1 lets us live: the lease, unless it couldn't be told. */
  #renewHandle(untilMs: number | null): number | null {
    const { handle, log } = this.#options;
    if (this.#isLost) return 0;
    if (!handle.isArmed) return untilMs;
    try {
      handle.arm(untilMs ?? 0, handle.postmasterPid);
    } catch (error) {
      log.error({ err: error }, 'lease: not renewed with process 1');
      return handle.deadlineMs === 0 ? 0 : Math.min(handle.deadlineMs, untilMs ?? handle.deadlineMs);
    }
    return untilMs;
  }

  #deadlineNow(): number {
    const untilMs = this.#present === undefined ? 0 : this.#untilOf(this.#present);
    return this.#holds(untilMs, this.#options.now()) ? (untilMs ?? 0) : 0;
  }

  #publish(untilMs: number | null): void {
    const { epoch = 0, generation = 0 } = this.#present ?? {};
    const exactMs =
      this.#present === undefined ? 0 : this.#untilOf(this.#present, (grant) => grant.generation === generation);
    this.#options.memory.publish({
      epoch,
      generation,
      untilMs,
      exactUntilMs: earlier(untilMs, exactMs),
      number: this.#number,
    });
  }
}

const grantKey = (member: MemberIdentity, epoch: number): string => `${epoch} ${replicationName(member)}`;

const isListed = ({ lease }: ServeWish, member: MemberIdentity): boolean =>
  lease.members.some(({ name, incarnation }) => name === member.name && incarnation === member.incarnation);

const isSame = (a: ServeWish | undefined, b: ServeWish): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Null is no end at all. */
const earlier = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b);
