/**
 * What the controllers share to ask agents: connections, credentials, numbers of orders, and the last answer of each member.
 * One per operator process (and its ControllerDeps), since several controllers look at the same members.
 * Ages are by the monotonic clock: with the wall clock put back, an old answer would pass for a new one.
 */
import { labels } from '#core/names.ts';
import type { Pod } from '#kube/kinds.ts';
import type { KubeObject, Stored } from '#kube/objects.ts';
import type { ControllerDeps } from '../runtime/controller.ts';
import { AgentClient, type AgentTarget, type StatusAnswer } from './client.ts';
import { CredentialStore } from './credentials.ts';
import { OrderSequence } from './sequence.ts';

interface Kept {
  readonly answer: StatusAnswer;
  /** When it was asked, which is before anything that the answer says. */
  readonly askedMs: number;
}

export class AgentAccess {
  readonly client = new AgentClient();
  readonly sequence = new OrderSequence();
  readonly credentials: CredentialStore;
  readonly #answers = new Map<string, Kept>();

  constructor(deps: Pick<ControllerDeps, 'kube'>) {
    this.credentials = new CredentialStore(deps.kube);
  }

  /**
   * Asks every pod that has an address, all at once.
   * @param maxAgeMs How old an answer may be; 0 asks in any case, as decisions must.
   * @returns By pod name; a pod without an address is silent.
   */
  async ask(
    keyspace: Stored<KubeObject> | undefined,
    pods: readonly Pod[],
    maxAgeMs: number,
  ): Promise<ReadonlyMap<string, StatusAnswer>> {
    const answers = await Promise.all(
      pods.map(
        async (pod): Promise<[string, StatusAnswer]> => [
          pod.metadata.name,
          await this.#askOne(keyspace, pod, maxAgeMs),
        ],
      ),
    );
    return new Map(answers);
  }

  async #askOne(keyspace: Stored<KubeObject> | undefined, pod: Pod, maxAgeMs: number): Promise<StatusAnswer> {
    const target = agentTarget(pod);
    if (target === undefined) return { kind: 'silent', why: 'its pod has no address yet' };
    if (keyspace === undefined) return { kind: 'silent', why: 'its Keyspace is gone, and with it our certificate' };
    const key = `${pod.metadata.uid ?? pod.metadata.name}@${target.address}`;
    const kept = this.#answers.get(key);
    const askedMs = performance.now();
    if (maxAgeMs > 0 && kept !== undefined && askedMs - kept.askedMs <= maxAgeMs) return kept.answer;
    const answer = await this.client.status(target, await this.credentials.of(keyspace));
    this.#forgetOld();
    this.#answers.set(key, { answer, askedMs });
    return answer;
  }

  #forgetOld(): void {
    const limit = performance.now() - 60_000;
    for (const [key, { askedMs }] of this.#answers) if (askedMs < limit) this.#answers.delete(key);
  }
}

/** Undefined while the pod has no address, or has ended. */
export function agentTarget(pod: Pod): AgentTarget | undefined {
  const { name, namespace, labels: podLabels } = pod.metadata;
  const address = pod.status?.podIP;
  const keyspace = podLabels?.[labels.keyspace];
  if (address === undefined || address === '' || namespace === undefined || keyspace === undefined) return undefined;
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return undefined;
  return { namespace, keyspace, member: name, address };
}

const shared = new WeakMap<ControllerDeps, AgentAccess>();

export function agentAccess(deps: ControllerDeps): AgentAccess {
  let access = shared.get(deps);
  if (access === undefined) {
    access = new AgentAccess(deps);
    shared.set(deps, access);
  }
  return access;
}
