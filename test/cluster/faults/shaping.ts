// Slow lines: a rate for all that a region sends (a token bucket on its node's outward device), and latency between two
// places. Kernels without `tc netem` hold no packet back, so latency is a small router of ours in each node
// (go/node/delay.go): packets for the other place go to its TUN device and come out of it later. Policy routing keeps
// them from going round: a table of their own for what arrives from anywhere else, the main table for what comes out.
import type { Run } from '../process.ts';
import { inNode } from './network.ts';
import { networksOf, type TargetNode, type Targets } from './targets.ts';

export interface ShapingFaults {
  /** Limits what the place sends, in total. `rate` as tc takes it: `10mbit`. */
  limitBandwidth(place: string, rate: string): Promise<void>;
  unlimitBandwidth(place: string): Promise<void>;
  /** Adds this many milliseconds to a round trip between the two, half of it each way; replaces an earlier one. */
  addLatency(from: string, to: string, roundTripMs: number): Promise<void>;
  removeLatency(from: string, to: string): Promise<void>;
  unshapeAll(): Promise<void>;
}

const OUTWARD_DEVICE = 'eth0';
/** Above `local` (0) and below `main` (32766). */
const RULE_OUT_OF_DELAY = '100';
const RULE_INTO_DELAY = '101';
const FIRST_TABLE = 200;

export function createShapingFaults(targets: Targets, run: Run): ShapingFaults {
  const runAll = async (commands: readonly (readonly string[])[]): Promise<void> => {
    for (const argv of commands) await run(argv);
  };
  const both = (from: string, to: string): [TargetNode, TargetNode][] => [
    ...product(targets.find(from), targets.find(to)),
    ...product(targets.find(to), targets.find(from)),
  ];
  return {
    limitBandwidth: async (place, rate) => runAll(targets.find(place).map((node) => limitCommand(node, rate))),
    unlimitBandwidth: async (place) => runAll(targets.find(place).map(unlimitCommand)),
    addLatency: async (from, to, roundTripMs) => {
      if (!(roundTripMs > 0)) throw new Error(`latency must be above 0 ms, not ${roundTripMs}`);
      for (const [node, other] of both(from, to)) {
        await runAll([
          removeDelayCommand(targets, node, other),
          ...addDelayCommands(targets, node, other, roundTripMs / 2),
        ]);
      }
    },
    removeLatency: async (from, to) =>
      runAll(both(from, to).map(([node, other]) => removeDelayCommand(targets, node, other))),
    unshapeAll: async () => {
      await Promise.all(
        targets.all.map(async (node) => {
          await run(unlimitCommand(node));
          await runAll(product([node], targets.all).map(([, other]) => removeDelayCommand(targets, node, other)));
        }),
      );
    },
  };
}

function product(from: readonly TargetNode[], to: readonly TargetNode[]): [TargetNode, TargetNode][] {
  return from.flatMap((node) =>
    to.filter((other) => other.name !== node.name).map((other): [TargetNode, TargetNode] => [node, other]),
  );
}

/** A burst that lets single packets through at once and still holds the rate over a tenth of a second. */
export function limitCommand(node: TargetNode, rate: string): string[] {
  if (!/^\d+(\.\d+)?(k|m|g)?bit$/.test(rate)) throw new Error(`not a rate: ${rate} (10mbit, 500kbit)`);
  const shape = ['root', 'tbf', 'rate', rate, 'burst', '64kb', 'latency', '400ms'];
  return inNode(node, ['tc', 'qdisc', 'replace', 'dev', OUTWARD_DEVICE, ...shape]);
}

export function unlimitCommand(node: TargetNode): string[] {
  return inNode(node, ['sh', '-c', `tc qdisc del dev ${OUTWARD_DEVICE} root 2>/dev/null || true`]);
}

interface Delay {
  readonly device: string;
  readonly table: string;
}

/** Names of devices hold 15 characters, so places are numbered. */
function delayTowards(targets: Targets, other: TargetNode): Delay {
  const index = targets.all.findIndex((node) => node.name === other.name);
  return { device: `delay${index}`, table: String(FIRST_TABLE + index) };
}

export function addDelayCommands(targets: Targets, node: TargetNode, other: TargetNode, oneWayMs: number): string[][] {
  const { device, table } = delayTowards(targets, other);
  const duration = `${Math.round(oneWayMs * 1000)}us`;
  const daemon = ['meridian-node', 'delay', '--device', device, '--one-way', duration];
  const networks = networksOf(other);
  return [
    ['docker', 'exec', '-d', node.container, ...daemon],
    inNode(node, ['sh', '-c', `until ip link set ${device} up mtu 1400 2>/dev/null; do sleep 0.05; done`]),
    // What the node itself sent comes back in with the node's own address as its source.
    inNode(node, ['sysctl', '-qw', `net.ipv4.conf.${device}.accept_local=1`, `net.ipv4.conf.${device}.rp_filter=0`]),
    // A packet whose service address already became a pod's would look like a second connection with the same answers
    // to the kernel's connection tracking, which drops it. It was tracked on its way in; out it goes untracked.
    inNode(node, ['iptables', '-w', '-t', 'raw', '-A', 'PREROUTING', '-i', device, '-j', 'CT', '--notrack']),
    ...networks.map((network) => inNode(node, ['ip', 'route', 'replace', network, 'dev', device, 'table', table])),
    inNode(node, ['ip', 'rule', 'add', 'iif', device, 'lookup', 'main', 'pref', RULE_OUT_OF_DELAY]),
    ...networks.map((network) =>
      inNode(node, ['ip', 'rule', 'add', 'to', network, 'lookup', table, 'pref', RULE_INTO_DELAY]),
    ),
  ];
}

/** The device goes with its process, and the routes through the device with it; rules have to be taken back. */
export function removeDelayCommand(targets: Targets, node: TargetNode, other: TargetNode): string[] {
  const { device, table } = delayTowards(targets, other);
  const script = [
    'device=$1 table=$2',
    'while ip rule del lookup "$table" 2>/dev/null; do :; done',
    'while ip rule del iif "$device" 2>/dev/null; do :; done',
    'if [ -f "/run/meridian/$device.pid" ]; then kill "$(cat "/run/meridian/$device.pid")" 2>/dev/null; fi',
    'while iptables -w -t raw -D PREROUTING -i "$device" -j CT --notrack 2>/dev/null; do :; done',
    'while [ -e "/sys/class/net/$device" ]; do sleep 0.05; done',
  ].join('\n');
  return inNode(node, ['sh', '-c', script, 'sh', device, table]);
}
