// What every provider's cluster must do, tried on a real one: names, volumes, images, reach from this machine, and each
// fault with what it does and that it can be taken back. It pauses nodes and cuts networks, so it wants the cluster for
// itself: `node --test test/cluster/conformance.test.ts`. About a minute.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { BASE_IMAGE } from '#cluster/docker/base-image.ts';
import { BOUNDED_CLASS } from '#cluster/faults/disk.ts';

const NAMESPACE = 'cluster-conformance';
const PORT = 8000;
/** Answers each connection with its pod's name; perl is in every Debian. */
const SERVER = `
$SIG{CHLD} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalPort => ${PORT}, Listen => 16, ReuseAddr => 1) or die $!;
while (my $client = $server->accept) {
  next if fork;
  print $client "$ENV{HOSTNAME}\\n";
  1 while sysread($client, my $ignored, 65536);
  exit;
}`;

let cluster: Cluster;
/** By region: pod name and address. */
const pods = new Map<string, { name: string; address: string }>();

const kubectl = (line: string, stdin?: string): Promise<string> =>
  cluster.kubectl(['-n', NAMESPACE, ...line.split(' ')], stdin);
const podIn = (region: string): { name: string; address: string } => {
  const pod = pods.get(region);
  assert.ok(pod, `no pod in ${region}`);
  return pod;
};

before(async () => {
  cluster = await ensureCluster();
  await cluster.faults.healAll();
  await cluster.loadImages([BASE_IMAGE]);
  await cluster.kubectl(['delete', 'namespace', NAMESPACE, '--ignore-not-found']);
  await cluster.kubectl(['create', 'namespace', NAMESPACE]);
  await kubectl('apply -f -', MANIFEST);
  await kubectl('rollout status statefulset/probe --timeout=90s');
  await readPods();
});

after(async () => {
  await cluster.faults.healAll();
  await cluster.kubectl(['delete', 'namespace', NAMESPACE, '--wait=false']);
});

async function readPods(): Promise<void> {
  const { items } = JSON.parse(await kubectl('get pods -o json')) as {
    items: { metadata: { name: string }; spec: { nodeName: string }; status: { podIP: string } }[];
  };
  pods.clear();
  for (const { metadata, spec, status } of items) {
    const node = cluster.nodes.find(({ name }) => name === spec.nodeName);
    pods.set(node?.region ?? 'api', { name: metadata.name, address: status.podIP });
  }
}

/** Milliseconds until a pod is connected to an address, or null when it isn't within the time. */
async function dial(region: string, address: string, port = PORT, timeoutSeconds = 2): Promise<number | null> {
  const script = `t=$(date +%s%N); exec 3<>/dev/tcp/${address}/${port} && echo $(( ($(date +%s%N) - t) / 1000 ))`;
  const args = [
    '-n',
    NAMESPACE,
    'exec',
    podIn(region).name,
    '--',
    'timeout',
    String(timeoutSeconds),
    'bash',
    '-c',
    script,
  ];
  const output = await cluster.kubectl(args).catch(() => null);
  return output === null ? null : Number(output) / 1000;
}

/** TCP segments that a pod has received (InSegs, RFC 4022). */
async function receivedSegments(region: string): Promise<number> {
  const table = await kubectl(`exec ${podIn(region).name} -- cat /proc/net/snmp`);
  const [names, values] = table.split('\n').filter((line) => line.startsWith('Tcp:'));
  const column = names?.split(' ').indexOf('InSegs') ?? -1;
  return Number(values?.split(' ')[column]);
}

/** What the server at an address says to this machine, or null when it says nothing for a while. */
async function ask(address: string, port = PORT, timeoutMs = 1500): Promise<string | null> {
  const socket = connect({ host: address, port });
  socket.setTimeout(timeoutMs, () => socket.destroy());
  socket.on('error', () => {});
  try {
    const [data] = (await once(socket, 'data', { signal: AbortSignal.timeout(timeoutMs) })) as [Buffer];
    return data.toString().trim();
  } catch {
    return null;
  } finally {
    socket.destroy();
  }
}

async function until(what: string, holds: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const giveUpAt = Date.now() + timeoutMs;
  while (!(await holds())) {
    assert.ok(Date.now() < giveUpAt, `${what}: not within ${timeoutMs} ms`);
    await sleep(250);
  }
}

test('pods spread over the three regions, and each has a volume of its own that it may write', async () => {
  assert.deepEqual([...pods.keys()].toSorted(), ['ap', 'eu', 'us']);
  for (const { name } of pods.values()) {
    assert.match(await kubectl(`exec ${name} -- stat -c %a:%g /data`), /^2775:10001$/m);
    assert.equal((await kubectl(`exec ${name} -- cat /data/name`)).trim(), name);
  }
});

test('names of services and of pods resolve', async () => {
  const { name, address } = podIn('us');
  const found = await kubectl(
    `exec ${podIn('eu').name} -- getent hosts ${name}.probe kubernetes.default.svc.cluster.local`,
  );
  assert.match(found, new RegExp(`^${address.replaceAll('.', '\\.')} `, 'm'));
  assert.equal(found.trim().split('\n').length, 2);
});

test('this machine reaches pods, and services by their address', async () => {
  for (const { name, address } of pods.values()) assert.equal(await ask(address), name);
  const service = await kubectl('get service probe-any -o jsonpath={.spec.clusterIP}');
  assert.match((await ask(service)) ?? '', /^probe-\d$/);
});

test('a pod that goes away comes back to its volume; a claim that goes away takes its volume with it', async () => {
  const { name } = podIn('ap');
  await kubectl(`delete pod ${name} --grace-period=1`);
  await kubectl('rollout status statefulset/probe --timeout=60s');
  await readPods();
  assert.equal(podIn('ap').name, name);
  assert.equal((await kubectl(`exec ${name} -- cat /data/starts`)).trim().split('\n').length, 2);

  const claim = 'data-gone';
  await kubectl('apply -f -', claimant(claim));
  await kubectl('wait --for=jsonpath={.status.phase}=Succeeded pod/gone --timeout=60s');
  const volume = await kubectl(`get pvc ${claim} -o jsonpath={.spec.volumeName}`);
  await kubectl('delete pod gone');
  await kubectl(`delete pvc ${claim}`);
  await until('the volume is gone', async () => !(await cluster.kubectl(['get', 'pv', '-o', 'name'])).includes(volume));
});

test('a cut loses packets both ways and only between the two, and heals', async () => {
  await cluster.faults.cut('eu', 'us');
  assert.equal(await dial('eu', podIn('us').address), null);
  assert.equal(await dial('us', podIn('eu').address), null);
  assert.notEqual(await dial('eu', podIn('ap').address), null);
  assert.equal(await ask(podIn('us').address), podIn('us').name);
  await cluster.faults.heal('us', 'eu');
  assert.notEqual(await dial('eu', podIn('us').address), null);
});

test('a one-way cut loses answers, too, but lets packets of the other side arrive', async () => {
  await cluster.faults.cut('eu', 'us', { oneWay: true });
  assert.equal(await dial('eu', podIn('us').address), null);
  const before = await receivedSegments('eu');
  assert.equal(await dial('us', podIn('eu').address), null);
  assert.ok((await receivedSegments('eu')) > before, 'the first packet of the connection arrived');
  await cluster.faults.heal('eu', 'us');
});

test('a pod that is muted towards another is not heard there, and still is by everybody else', async () => {
  const speakerIn = (region: string): { address: string; node: string | null } => ({
    address: podIn(region).address,
    node: cluster.nodes.find((node) => node.region === region)?.name ?? null,
  });
  await cluster.faults.mute(speakerIn('eu'), speakerIn('us'));
  const before = await receivedSegments('eu');
  assert.equal(await dial('us', podIn('eu').address), null);
  assert.ok((await receivedSegments('eu')) > before, 'the other way packets arrive');
  assert.notEqual(await dial('eu', podIn('ap').address), null);
  assert.equal(await ask(podIn('us').address), podIn('us').name);
  await cluster.faults.healNetwork();
  assert.notEqual(await dial('us', podIn('eu').address), null);
});

test('a bounded volume holds what it holds, can be filled from outside, and freed', async () => {
  await cluster.faults.makeBoundedVolumes(['us'], 8);
  try {
    await kubectl('apply -f -', claimant('data-bounded', 'bounded', BOUNDED_CLASS, 'sleep infinity'));
    await kubectl('wait --for=condition=Ready pod/bounded --timeout=60s');
    const write = (megabytes: number): Promise<string> =>
      kubectl(`exec bounded -- dd if=/dev/zero of=/data/x bs=1M count=${megabytes}`);
    await write(4);
    await assert.rejects(write(12), /No space left/);
    await kubectl('exec bounded -- rm /data/x');
    await cluster.faults.fillVolume(NAMESPACE, 'bounded');
    await assert.rejects(write(1), /No space left/);
    await cluster.faults.freeVolume(NAMESPACE, 'bounded');
    await write(4);
    await kubectl('delete pod bounded --grace-period=1');
    await kubectl('delete pvc data-bounded');
  } finally {
    await cluster.faults.removeBoundedVolumes();
  }
  const volumes = await cluster.kubectl(['get', 'pv', '-o', 'name']);
  assert.doesNotMatch(volumes, /meridian-bounded/);
});

test('a region that is cut from the API server is lost after the grace period, and back after healing', async () => {
  const node = cluster.nodes.find(({ region }) => region === 'ap')?.name ?? '';
  const ready = (): Promise<string> =>
    cluster.kubectl(['get', 'node', node, '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}']);
  await cluster.faults.cut('ap', 'api');
  await until('the node is lost', async () => (await ready()) === 'Unknown', 40_000);
  // Its pods live on, and the others still reach them.
  assert.notEqual(await dial('eu', podIn('ap').address), null);
  await cluster.faults.heal('ap', 'api');
  await until('the node is back', async () => (await ready()) === 'True');
});

test('latency adds to round trips between two places, through services too, and goes away', async () => {
  await cluster.faults.addLatency('eu', 'us', 80);
  const there = await dial('eu', podIn('us').address);
  assert.ok(there !== null && there > 80 && there < 120, `${there} ms`);
  const elsewhere = await dial('eu', podIn('ap').address);
  assert.ok(elsewhere !== null && elsewhere < 40, `${elsewhere} ms`);
  await kubectl('apply -f -', JSON.stringify(serviceOf(podIn('us').name)));
  const address = await kubectl('get service probe-one -o jsonpath={.spec.clusterIP}');
  await until('the service has an endpoint', async () => (await dial('ap', address)) !== null);
  const throughService = await dial('eu', address);
  assert.ok(throughService !== null && throughService > 80, `${throughService} ms`);
  await cluster.faults.removeLatency('us', 'eu');
  const after = await dial('eu', podIn('us').address);
  assert.ok(after !== null && after < 40, `${after} ms`);
});

test('a bandwidth limit holds for what a region sends', async () => {
  const send = async (): Promise<number> => {
    const startedAt = performance.now();
    const script = `exec 3<>/dev/tcp/${podIn('us').address}/${PORT}; head -c 2000000 /dev/zero >&3`;
    await cluster.kubectl(['-n', NAMESPACE, 'exec', podIn('eu').name, '--', 'timeout', '20', 'bash', '-c', script]);
    return (performance.now() - startedAt) / 1000;
  };
  await cluster.faults.limitBandwidth('eu', '4mbit');
  const limited = await send();
  await cluster.faults.unlimitBandwidth('eu');
  const free = await send();
  // 16 Mbit at 4 Mbit/s, less what sockets and the bucket hold by themselves.
  assert.ok(limited > 2.5 && free < 1.5, `${limited} s limited, ${free} s free`);
});

test('processes of a pod stop, go on and die as told', async () => {
  const { name, address } = podIn('us');
  const target = { pod: `${NAMESPACE}/${name}`, process: '^perl' };
  await cluster.faults.signal(target, 'STOP');
  assert.equal(await ask(address), null);
  await cluster.faults.signal(target, 'CONT');
  assert.equal(await ask(address), name);
  await cluster.faults.signal({ pod: target.pod }, 'KILL');
  const restarts = (): Promise<string> =>
    kubectl(`get pod ${name} -o jsonpath={.status.containerStatuses[0].restartCount}`);
  await until('its container is started again', async () => (await restarts()) === '1');
  await until('it answers again', async () => (await ask(address)) === name);
});

test('a frozen region is silent, pods and all, and goes on when it is thawed', async () => {
  const { name, address } = podIn('us');
  await cluster.faults.pause('us');
  assert.equal(await ask(address), null);
  await cluster.faults.resume('us');
  await until('it answers again', async () => (await ask(address)) === name);
});

test('a killed region comes back with its volumes', async () => {
  const { name } = podIn('us');
  await cluster.faults.kill('us');
  await cluster.faults.resume('us');
  await until(
    'its pod runs again',
    async () => {
      await readPods();
      return (await ask(podIn('us').address)) === name;
    },
    90_000,
  );
  assert.equal((await kubectl(`exec ${name} -- cat /data/name`)).trim(), name);
});

function claimant(claim: string, pod = 'gone', storageClassName?: string, script = 'touch /data/x'): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: claim },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: storageClassName === undefined ? '1Gi' : '8Mi' } },
          storageClassName,
        },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: pod },
        spec: {
          restartPolicy: 'Never',
          containers: [
            {
              name: 'main',
              image: BASE_IMAGE,
              command: ['sh', '-c', script],
              volumeMounts: [{ name: 'data', mountPath: '/data' }],
            },
          ],
          volumes: [{ name: 'data', persistentVolumeClaim: { claimName: claim } }],
        },
      },
    ],
  });
}

const START = 'echo start >> /data/starts; hostname > /data/name; exec perl -MIO::Socket::INET -e "$SERVER"';
const PROBE = { app: 'probe' };
const POD_SPEC = {
  terminationGracePeriodSeconds: 1,
  securityContext: {
    runAsUser: 10001,
    runAsGroup: 10001,
    fsGroup: 10001,
    runAsNonRoot: true,
    seccompProfile: { type: 'RuntimeDefault' },
  },
  topologySpreadConstraints: [
    {
      maxSkew: 1,
      topologyKey: 'topology.kubernetes.io/region',
      whenUnsatisfiable: 'DoNotSchedule',
      labelSelector: { matchLabels: PROBE },
    },
  ],
  containers: [
    {
      name: 'main',
      image: BASE_IMAGE,
      command: ['sh', '-c', START],
      env: [{ name: 'SERVER', value: SERVER }],
      securityContext: {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      },
      readinessProbe: { tcpSocket: { port: PORT }, periodSeconds: 1 },
      volumeMounts: [{ name: 'data', mountPath: '/data' }],
    },
  ],
};
const service = (name: string, spec: object): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { ports: [{ port: PORT }], ...spec },
});
const serviceOf = (pod: string): object =>
  service('probe-one', { selector: { 'statefulset.kubernetes.io/pod-name': pod } });
const MANIFEST = JSON.stringify({
  apiVersion: 'v1',
  kind: 'List',
  items: [
    service('probe', { clusterIP: 'None', selector: PROBE }),
    service('probe-any', { selector: PROBE }),
    {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'probe' },
      spec: {
        serviceName: 'probe',
        replicas: 3,
        podManagementPolicy: 'Parallel',
        selector: { matchLabels: PROBE },
        template: { metadata: { labels: PROBE }, spec: POD_SPEC },
        volumeClaimTemplates: [
          {
            metadata: { name: 'data' },
            spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
          },
        ],
      },
    },
  ],
});
