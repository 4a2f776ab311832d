import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterNode } from '#cluster/cluster.ts';
import { createFaults } from '#cluster/faults/faults.ts';
import { splitPodName } from '#cluster/faults/processes.ts';
import { layoutFor } from '#cluster/local/layout.ts';
import { createRecorder } from '../recorder.ts';

const nodes: ClusterNode[] = layoutFor('172.30.77').nodes.map((node) => ({ ...node, container: node.name }));
const POD = JSON.stringify({
  spec: { nodeName: 'meridian-us' },
  status: {
    containerStatuses: [
      { name: 'postgres', containerID: 'containerd://abc' },
      { name: 'side', containerID: 'containerd://def' },
    ],
  },
});

function faultsWith(answers: Record<string, string> = {}, pod = POD) {
  const { run, lines } = createRecorder(answers);
  const asked: string[] = [];
  const kubectl = async (args: readonly string[]): Promise<string> => {
    asked.push(args.join(' '));
    return pod;
  };
  return { faults: createFaults(nodes, kubectl, run), lines, asked };
}
const inspecting = (state: string) => ({ 'container inspect': `${state}\n` });
const changes = (lines: readonly string[]): string[] => lines.filter((line) => !line.includes('inspect'));

test('freezing, thawing and killing a region are orders to its container', async () => {
  const running = faultsWith(inspecting('running'));
  await running.faults.pause('eu');
  await running.faults.kill('meridian-us');
  assert.deepEqual(changes(running.lines), ['docker pause meridian-eu', 'docker kill meridian-us']);
  const paused = faultsWith(inspecting('paused'));
  await paused.faults.pause('eu');
  await paused.faults.resume('eu');
  await paused.faults.kill('us');
  assert.deepEqual(changes(paused.lines), [
    'docker unpause meridian-eu',
    'docker unpause meridian-us',
    'docker kill meridian-us',
  ]);
  const killed = faultsWith(inspecting('exited'));
  await killed.faults.resume('api');
  assert.deepEqual(changes(killed.lines), ['docker start meridian-cp']);
});

const drops = (lines: readonly string[]): string[] =>
  lines
    .filter((line) => line.includes(' -A '))
    .map((line) => line.replace('iptables -w -t mangle -A MERIDIAN-FAULTS ', ''));

test("a cut drops what either side sends to the other's node and pods", async () => {
  const { faults, lines } = faultsWith();
  await faults.cut('eu', 'us');
  assert.deepEqual(drops(lines.filter((line) => !line.includes('sh -c'))), [
    'docker exec meridian-eu -d 10.244.2.0/24 -j DROP',
    'docker exec meridian-eu -d 172.30.77.12/32 -j DROP',
    'docker exec meridian-us -d 10.244.1.0/24 -j DROP',
    'docker exec meridian-us -d 172.30.77.11/32 -j DROP',
  ]);
});

test('a one-way cut drops only what the first sends', async () => {
  const { faults, lines } = faultsWith();
  await faults.cut('eu', 'api', { oneWay: true });
  assert.deepEqual(drops(lines.filter((line) => !line.includes('sh -c'))), [
    'docker exec meridian-eu -d 10.244.0.0/24 -j DROP',
    'docker exec meridian-eu -d 172.30.77.10/32 -j DROP',
  ]);
});

test('healing takes back exactly what a cut put there, both ways', async () => {
  const { faults, lines } = faultsWith();
  await faults.heal('eu', 'us');
  const targets = lines.map((line) => /exec (\S+) .* (\S+)$/s.exec(line)?.slice(1).join(' '));
  assert.deepEqual(targets, [
    'meridian-eu 10.244.2.0/24',
    'meridian-eu 172.30.77.12/32',
    'meridian-us 10.244.1.0/24',
    'meridian-us 172.30.77.11/32',
  ]);
  for (const line of lines) assert.match(line, /iptables -w -t mangle -D/);
});

test('a place that does not exist is refused with the places there are', async () => {
  const { faults, lines } = faultsWith();
  await assert.rejects(faults.cut('eu', 'mars'), /no such place: mars \(there are ap, api, eu, .*\)/);
  assert.deepEqual(drops(lines), []);
});

test('nodes that are no containers of this machine can not be harmed', async () => {
  const faults = createFaults(
    [{ ...(nodes[1] as ClusterNode), container: null }],
    async () => POD,
    createRecorder().run,
  );
  await assert.rejects(faults.pause('eu'), /no faults here/);
  await assert.rejects(faults.signal({ pod: 'x' }, 'KILL'), /runs on no container/);
});

test('a process of a pod is signalled from its node, in the container that was asked for', async () => {
  const { faults, lines, asked } = faultsWith({ 'ctr -n k8s.io': '12 13\n' });
  const pids = await faults.signal({ pod: 'shop/a-eu-0', process: '^postgres: walsender' }, 'SIGSTOP');
  assert.deepEqual(pids, [12, 13]);
  assert.deepEqual(asked, ['get pod a-eu-0 -n shop -o json']);
  assert.match(lines[0] ?? '', /^docker exec meridian-us sh -c [^]* sh abc STOP \^postgres: walsender all$/);
  await faults.signal({ pod: 'a-eu-0', container: 'side' }, 'KILL');
  assert.match(lines[1] ?? '', / sh def KILL {2}first$/);
});

test('a signal that reaches no process is an error, as are a missing container and a made-up signal', async () => {
  const { faults } = faultsWith();
  await assert.rejects(faults.signal({ pod: 'a', process: 'nothing' }, 'KILL'), /no process of pod a matches nothing/);
  await assert.rejects(faults.signal({ pod: 'a', container: 'none' }, 'KILL'), /no running container none/);
  await assert.rejects(faults.signal({ pod: 'a' }, 'KILL; reboot'), /not a signal/);
});

test('a pod without a namespace is in default', () => {
  assert.deepEqual(splitPodName('a'), ['default', 'a']);
  assert.deepEqual(splitPodName('shop/a'), ['shop', 'a']);
});

test('a bandwidth limit replaces the outward queue, and takes only what tc understands', async () => {
  const { faults, lines } = faultsWith();
  await faults.limitBandwidth('us', '10mbit');
  await faults.unlimitBandwidth('us');
  assert.equal(
    lines[0],
    'docker exec meridian-us tc qdisc replace dev eth0 root tbf rate 10mbit burst 64kb latency 400ms',
  );
  assert.match(lines[1] ?? '', /^docker exec meridian-us sh -c tc qdisc del dev eth0 root/);
  for (const rate of ['fast', '10', '-1mbit', '10mbit; reboot']) {
    await assert.rejects(faults.limitBandwidth('us', rate), /not a rate/);
  }
});

test('latency is half each way, through a device and a table of its own per other side', async () => {
  const { faults, lines } = faultsWith();
  await faults.addLatency('eu', 'us', 81);
  const daemons = lines.filter((line) => line.startsWith('docker exec -d'));
  assert.deepEqual(daemons, [
    'docker exec -d meridian-eu meridian-node delay --device delay2 --one-way 40500us',
    'docker exec -d meridian-us meridian-node delay --device delay1 --one-way 40500us',
  ]);
  const rules = lines.filter((line) => line.startsWith('docker exec meridian-eu ip rule add'));
  assert.deepEqual(rules, [
    'docker exec meridian-eu ip rule add iif delay2 lookup main pref 100',
    'docker exec meridian-eu ip rule add to 10.244.2.0/24 lookup 202 pref 101',
    'docker exec meridian-eu ip rule add to 172.30.77.12/32 lookup 202 pref 101',
  ]);
});

test('new latency replaces the old one, and zero or less is no latency', async () => {
  const { faults, lines } = faultsWith();
  await faults.addLatency('eu', 'us', 10);
  assert.match(lines[0] ?? '', /^docker exec meridian-eu sh -c .*ip rule del/s);
  await assert.rejects(faults.addLatency('eu', 'us', 0), /above 0/);
  await assert.rejects(faults.addLatency('eu', 'us', Number.NaN), /above 0/);
});

test('healing everything thaws nodes before it tells them anything', async () => {
  const { faults, lines } = faultsWith(inspecting('paused'));
  await faults.healAll();
  const firstOrder = lines.findIndex((line) => line.startsWith('docker exec'));
  const lastThaw = lines.findLastIndex((line) => line.startsWith('docker unpause'));
  assert.equal(lines.filter((line) => line.startsWith('docker unpause')).length, 4);
  assert.ok(lastThaw < firstOrder);
  assert.equal(lines.filter((line) => line.endsWith('iptables -w -t mangle -F MERIDIAN-FAULTS')).length, 4);
});
