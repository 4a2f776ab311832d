// The command line of `fault`: names and options here, what they do in faults/.
import { Command } from 'commander';
import { attach, type Cluster, chooseProvider } from './cluster.ts';
import { note } from './progress.ts';

export type Attach = () => Promise<Pick<Cluster, 'faults'>>;

interface ProcessOptions {
  readonly process?: string;
  readonly container?: string;
  readonly signal?: string;
}

export function faultCommand(attachCluster: Attach = async () => attach(await chooseProvider())): Command {
  const fault = new Command('fault').description('harm the cluster, and take it back');
  const about = 'a region (eu), a node (meridian-eu) or `api`';

  for (const verb of ['pause', 'resume'] as const) {
    fault
      .command(verb)
      .argument('<place>', about)
      .description(verb === 'pause' ? 'freeze a node and its pods' : 'thaw a frozen node, start a killed one')
      .action(async (place: string) => (await attachCluster()).faults[verb](place));
  }
  fault
    .command('cut')
    .argument('<from>', about)
    .argument('<to>', about)
    .option('--one-way', 'lose only what goes from the first to the second', false)
    .description('drop every packet between two places')
    .action(async (from: string, to: string, { oneWay }: { oneWay: boolean }) =>
      (await attachCluster()).faults.cut(from, to, { oneWay }),
    );
  fault
    .command('heal')
    .argument('[from]', about)
    .argument('[to]', about)
    .description('take back the cut between two places; without names, every fault there is')
    .action(async (from?: string, to?: string) => {
      const { faults } = await attachCluster();
      if (from === undefined) await faults.healAll();
      else if (to === undefined) throw new Error('heal takes two places, or none');
      else await faults.heal(from, to);
    });
  fault
    .command('kill')
    .argument('<target>', `${about}, or a pod: pod/NAME, NAMESPACE/NAME`)
    .option('--process <pattern>', 'only processes whose command line matches this extended regular expression')
    .option('--container <name>', "the pod's container (default: its first)")
    .option('--signal <name>', 'another signal than KILL')
    .description('kill a node, or process 1 (or a named process) of a pod')
    .action(async (target: string, options: ProcessOptions) => {
      const { faults } = await attachCluster();
      if (!target.includes('/')) return faults.kill(target);
      return report(await faults.signal({ ...options, pod: podOf(target) }, options.signal ?? 'KILL'));
    });
  for (const [verb, signal] of [
    ['stop', 'STOP'],
    ['cont', 'CONT'],
  ] as const) {
    fault
      .command(verb)
      .argument('<pod>', 'pod/NAME or NAMESPACE/NAME')
      .option('--process <pattern>', 'only processes whose command line matches this extended regular expression')
      .option('--container <name>', "the pod's container (default: its first)")
      .description(verb === 'stop' ? 'freeze the processes of a pod (SIGSTOP)' : 'let them go on (SIGCONT)')
      .action(async (pod: string, options: ProcessOptions) =>
        report(await (await attachCluster()).faults.signal({ ...options, pod: podOf(pod) }, signal)),
      );
  }
  fault
    .command('bandwidth')
    .argument('<place>', about)
    .option('--rate <rate>', 'for all that it sends, 10mbit for one')
    .option('--off', 'no limit', false)
    .description('limit what a place sends')
    .action(async (place: string, { rate, off }: { rate?: string; off: boolean }) => {
      const { faults } = await attachCluster();
      if (off) return faults.unlimitBandwidth(place);
      if (rate === undefined) throw new Error('bandwidth takes --rate or --off');
      return faults.limitBandwidth(place, rate);
    });
  fault
    .command('latency')
    .argument('<from>', about)
    .argument('<to>', about)
    .argument('[milliseconds]', 'added to a round trip, half of it each way')
    .option('--off', 'no latency', false)
    .description('add latency between two places')
    .action(async (from: string, to: string, milliseconds: string | undefined, { off }: { off: boolean }) => {
      const { faults } = await attachCluster();
      if (off) return faults.removeLatency(from, to);
      if (milliseconds === undefined) throw new Error('latency takes milliseconds or --off');
      return faults.addLatency(from, to, Number(milliseconds));
    });
  return fault;
}

/** `pod/NAME` is a pod in the namespace `default`. */
export function podOf(target: string): string {
  return target.startsWith('pod/') ? target.slice('pod/'.length) : target;
}

function report(pids: readonly number[]): void {
  note(`signalled ${pids.join(', ')}`);
}
