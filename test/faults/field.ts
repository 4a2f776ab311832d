/** Looks up who is where, just before harm is done: while it lasts the API server may not answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Entry } from '../history/entry.ts';
import type { Field } from './fault.ts';
import type { Installation, Pod } from './installation.ts';

const POLL_MS = 100;
const LEADER_PATIENCE_MS = 30_000;

/** `recent` are the latest entries of the histories that are being recorded. */
export async function fieldOf(
  installation: Installation,
  recent: () => readonly Entry[],
  round: number,
  note: (text: string) => void,
): Promise<Field> {
  const [authority, members, routers, operators] = await Promise.all([
    installation.authority(),
    installation.members(),
    installation.routers(),
    installation.operators(),
  ]);
  const primary = members.find(({ name }) => name === authority?.member);
  if (primary === undefined) throw new Error('the primary has no pod');
  const leadingOperator = await leaderOf(installation, operators);
  note(`primary ${primary.name}, leading operator in ${leadingOperator.region}`);
  return {
    installation,
    cluster: installation.cluster,
    round,
    primary,
    followers: members.filter(({ name }) => name !== primary.name),
    routers,
    operators,
    leadingOperator,
    newSideSpoke: (withinMs) => newSideSpoke(recent, newestTimeline(recent()), performance.now() + withinMs),
    note,
  };
}

/** A leader that has just gone is still named by its Lease for a while. */
async function leaderOf(installation: Installation, operators: readonly Pod[]): Promise<Pod> {
  const giveUpAt = performance.now() + LEADER_PATIENCE_MS;
  for (;;) {
    const name = await installation.leadingOperator();
    const leader = operators.find((pod) => pod.name === name);
    if (leader !== undefined) return leader;
    if (performance.now() > giveUpAt) throw new Error(`no operator leads: the Lease names ${name ?? 'nobody'}`);
    await sleep(POLL_MS * 10);
  }
}

/** True once there is an acknowledgement of a later timeline than this. */
export async function newSideSpoke(recent: () => readonly Entry[], known: number, until: number): Promise<boolean> {
  while (performance.now() < until) {
    if (newestTimeline(recent()) > known) return true;
    await sleep(POLL_MS);
  }
  return false;
}

export function newestTimeline(entries: readonly Entry[]): number {
  return Math.max(0, ...entries.map(({ timeline }) => timeline ?? 0));
}
