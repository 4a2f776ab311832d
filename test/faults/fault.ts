/** What a fault is to those who run rounds of it: how to do harm and take it back, and what must come of it. */
import type { Cluster } from '#cluster/cluster.ts';
import type { Installation, Pod } from './installation.ts';

/** Who is where when the fault begins. */
export interface Field {
  readonly installation: Installation;
  readonly cluster: Cluster;
  /** Counts from 0: a fault that has variants takes another one each time. */
  readonly round: number;
  readonly primary: Pod;
  readonly followers: readonly Pod[];
  readonly routers: readonly Pod[];
  readonly operators: readonly Pod[];
  readonly leadingOperator: Pod;
  /** True once clients have an acknowledgement from a later timeline than any before this call; false after the time. */
  newSideSpoke(withinMs: number): Promise<boolean>;
  /** Kept with the round's result. */
  note(text: string): void;
}

export type Heal = () => Promise<void>;

/** Who leads in the end: another member (or the same in a new epoch), the same as before, or whoever it may be. */
export type Expected = 'new epoch' | 'same epoch' | 'any';

export interface Fault {
  readonly name: string;
  readonly about: string;
  readonly expected: Expected;
  /** How long it is left at most; once a new side has spoken only a little longer. */
  readonly lastsMs: number;
  /** Longest time without any acknowledged write, whichever router; left out: as long as it lasts. Twice what is aimed at, since two cores carry all of it. */
  readonly silentAtMostMs?: number;
  /** How many different forms it has; round n takes form n modulo this. */
  readonly forms?: number;
  /** Answers may be on their way for as long as the fault lasts. */
  readonly answersMayBeLate?: boolean;
  /** It needs members on volumes that can be filled. */
  readonly needsBoundedVolumes?: boolean;
  /** Returns how it is taken back. Everything that must be looked up is looked up before harm is done. */
  inject(field: Field): Promise<Heal>;
}

export const nothingToHeal: Heal = async () => {};

/** In a member's pod, by command line: the server's first process, and the agent. */
export const processes = {
  postmaster: '^(/[^ ]*/)?postgres -D',
  postgres: '^(/[^ ]*/)?postgres',
  agent: '^(/[^ ]*/)?node .*agent\\.mjs',
} as const;

export function memberTarget(
  { installation }: Field,
  pod: Pod,
  process?: string,
): { pod: string; container: string; process?: string } {
  return {
    pod: `${installation.namespace}/${pod.name}`,
    container: 'postgres',
    ...(process === undefined ? {} : { process }),
  };
}

/** By force: whoever ran in it has no time for a word. */
export async function deletePod({ cluster }: Field, namespace: string, pod: string): Promise<void> {
  await cluster.kubectl(['delete', 'pod', pod, '-n', namespace, '--grace-period=0', '--force', '--wait=false']);
}
