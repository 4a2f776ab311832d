/** Faults of the control plane and of the operators, alone or in the middle of a failover, and failures on top of others. */
import { setTimeout as sleep } from 'node:timers/promises';
import { systemNamespace } from '../../demo/installation.ts';
import { deletePod, type Fault, type Field, memberTarget, processes } from './fault.ts';
import { replicaName } from './manifests.ts';

/** When the operator dies after the primary did: before the suspicion, at fences, waiting, deciding, promoting. */
const STEP_MS = 700;
const STEPS = 10;
const FAILOVER_MS = 40_000;

/** The whole pod, so that nothing of it helps: the container is frozen as long as its node keeps it, then replaced. */
async function losePrimary(field: Field): Promise<() => Promise<void>> {
  await field.cluster.faults.pause(field.primary.region);
  return () => field.cluster.faults.resume(field.primary.region);
}

const operatorTarget = (field: Field): { pod: string } => ({ pod: `${systemNamespace}/${field.leadingOperator.name}` });

export const controlFaults: readonly Fault[] = [
  {
    name: 'api-paused',
    about: 'the API server (and all of the control plane) is frozen: reads and writes go on',
    expected: 'same epoch',
    lastsMs: 20_000,
    silentAtMostMs: 4_000,
    inject: async ({ cluster }) => {
      await cluster.faults.pause('api');
      return () => cluster.faults.resume('api');
    },
  },
  {
    name: 'api-paused-five-minutes',
    about: 'the same for five minutes',
    expected: 'same epoch',
    lastsMs: 300_000,
    silentAtMostMs: 4_000,
    inject: async ({ cluster }) => {
      await cluster.faults.pause('api');
      return () => cluster.faults.resume('api');
    },
  },
  {
    name: 'operators-away',
    about: 'every operator is gone: reads and writes go on',
    expected: 'same epoch',
    lastsMs: 20_000,
    silentAtMostMs: 4_000,
    inject: async (field) => {
      const scale = (replicas: number): Promise<string> =>
        field.cluster.kubectl([
          'scale',
          'deployment',
          '-n',
          systemNamespace,
          '-l',
          'app.kubernetes.io/component=operator',
          `--replicas=${replicas}`,
        ]);
      await scale(0);
      return async () => {
        await scale(field.operators.length);
      };
    },
  },
  {
    name: 'api-paused-during-failover',
    about: 'the API server is frozen for 8 s from half a second after the loss of the primary',
    expected: 'new epoch',
    lastsMs: FAILOVER_MS,
    answersMayBeLate: true,
    inject: async (field) => {
      const heal = await losePrimary(field);
      await sleep(500);
      await field.cluster.faults.pause('api');
      await sleep(8_000);
      await field.cluster.faults.resume('api');
      return heal;
    },
  },
  {
    name: 'operator-killed-during-failover',
    about: 'the leading operator is killed at one step after another of a failover',
    expected: 'new epoch',
    lastsMs: 60_000,
    forms: STEPS,
    answersMayBeLate: true,
    inject: async (field) => {
      const afterMs = (field.round % STEPS) * STEP_MS;
      field.note(`the operator is killed ${afterMs} ms after the loss`);
      const heal = await losePrimary(field);
      await sleep(afterMs);
      await deletePod(field, systemNamespace, field.leadingOperator.name);
      return heal;
    },
  },
  {
    name: 'operator-paused-through-failover',
    about: 'the leading operator is stopped, the primary is lost, and it goes on after another operator has acted',
    expected: 'new epoch',
    lastsMs: 60_000,
    forms: 4,
    answersMayBeLate: true,
    inject: async (field) => {
      const target = operatorTarget(field);
      // On the primary's own node it is frozen and thawed together with that.
      const isWithPrimary = field.leadingOperator.node === field.primary.node;
      const signal = async (name: 'STOP' | 'CONT'): Promise<void> => {
        if (!isWithPrimary) await field.cluster.faults.signal(target, name);
      };
      const heal = await losePrimary(field);
      // Stopped in the middle of what it does, at another moment each time.
      await sleep((field.round % 4) * 1_000);
      await signal('STOP');
      const hasSpoken = await field.newSideSpoke(45_000);
      field.note(hasSpoken ? 'another operator has acted' : 'nobody acted while the leader was stopped');
      await signal('CONT');
      await sleep(3_000);
      return heal;
    },
  },
  {
    name: 'two-failures',
    about: "the primary's node is frozen, and a moment after the failover the new primary's pod is deleted",
    expected: 'new epoch',
    lastsMs: FAILOVER_MS,
    answersMayBeLate: true,
    inject: async (field) => {
      const heal = await losePrimary(field);
      if (!(await field.newSideSpoke(FAILOVER_MS))) {
        field.note('no failover after the first failure');
        return heal;
      }
      const authority = await field.installation.authority();
      if (authority === undefined) throw new Error('no authority on record');
      field.note(`the second failure is that of ${authority.member}`);
      await deletePod(field, field.installation.namespace, authority.member);
      return heal;
    },
  },
  {
    name: 'failover-while-cloning',
    about: 'the primary is lost while a new follower is being cloned from it',
    expected: 'any',
    lastsMs: FAILOVER_MS,
    forms: 4,
    inject: async (field) => {
      const follower = field.followers[field.round % field.followers.length];
      if (follower === undefined) throw new Error('no follower');
      const replica = replicaName(field.installation.keyspace, follower.region);
      const scale = (replicas: number): Promise<string> =>
        field.installation.kubectl(['scale', 'regionalreplica', replica, `--replicas=${replicas}`]);
      await scale(2);
      const added = `${replica}-1`;
      const giveUpAt = performance.now() + 60_000;
      while (!(await phaseOf(field, added).catch(() => '')).includes('Cloning')) {
        if (performance.now() > giveUpAt) break;
        if ((await field.installation.members()).some(({ name, isReady }) => name === added && isReady)) {
          field.note('the clone was done before the fault');
          break;
        }
        await sleep(50);
      }
      await field.cluster.faults.signal(memberTarget(field, field.primary, processes.agent), 'STOP');
      return async () => {
        const target = memberTarget(field, field.primary, processes.agent);
        await field.cluster.faults.signal(target, 'CONT').catch(() => {});
        await scale(1);
      };
    },
  },
];

/** What a member's metrics say of its phase. */
async function phaseOf({ installation }: Field, pod: string): Promise<string> {
  const script =
    'exec 3<>/dev/tcp/127.0.0.1/8422; printf "GET /metrics HTTP/1.0\\r\\n\\r\\n" >&3; grep -a "^meridian_member_phase.* 1$" <&3';
  return installation.kubectl(['exec', pod, '-c', 'postgres', '--', 'bash', '-c', script]);
}
