// Docker's command lines for the nodes of the local cluster. Pure. A node needs nearly every right over its own
// namespaces, but `--privileged` asks for all of the kernel's and fails on machines that hold back a single one: the
// list is made from what this machine has.
import { cacheFolder, cachePath } from '../cache.ts';
import { PATHS } from './components.ts';
import { MTU } from './files.ts';
import { type Layout, NETWORK, type NodeLayout } from './layout.ts';

/** In the order of their bits (linux/capability.h). */
const CAPABILITIES = `
  CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
  NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
  SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
  MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
`
  .trim()
  .split(/\s+/);

/** `boundingSet` is the hexadecimal CapBnd of /proc/self/status; newer capabilities than Docker knows are left out. */
export function capabilities(boundingSet: string): string[] {
  const bits = BigInt(`0x${boundingSet}`);
  return CAPABILITIES.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n);
}

export function readBoundingSet(procStatus: string): string {
  const found = /^CapBnd:\s*([0-9a-f]+)$/m.exec(procStatus)?.[1];
  if (found === undefined) throw new Error('no CapBnd in /proc/self/status');
  return found;
}

export const LABEL = 'meridian.test/cluster=meridian';
/** Which cache folder a container was made from. */
export const CACHE_LABEL = 'meridian.test/cache';
/** The key of the sources that a container was made by. */
export const SOURCE_LABEL = 'meridian.test/source';

export const kubeconfigPath = (): string => cachePath('cluster', 'kubeconfig');
export const nodeFolder = (node: NodeLayout): string => cachePath('cluster', 'nodes', node.name);
export const logFolder = (node: NodeLayout): string => cachePath('cluster', 'logs', node.name);
export const volumesFolder = (): string => cachePath('cluster', 'volumes');
export const imagesFolder = (): string => cachePath('cluster', 'images');

export function dockerVolumes(node: NodeLayout): Record<string, string> {
  return { [`${node.name}-containerd`]: '/var/lib/containerd', [`${node.name}-kubelet`]: '/var/lib/kubelet' };
}

export interface Programs {
  readonly kube: string;
  readonly coredns: string;
  readonly node: string;
}

export function createCommand(
  layout: Layout,
  node: NodeLayout,
  image: string,
  programs: Programs,
  granted: readonly string[],
  sourceKey: string,
): string[] {
  const isControlPlane = node.name === layout.controlPlane.name;
  const mounts = [
    ...Object.entries(dockerVolumes(node)).map(([volume, path]) => `${volume}:${path}`),
    ...(isControlPlane ? [`${node.name}-etcd:${PATHS.etcd}`, `${volumesFolder()}:${PATHS.allVolumes}`] : []),
    `${nodeFolder(node)}:${PATHS.config}:ro`,
    `${logFolder(node)}:${PATHS.logs}`,
    `${volumesFolder()}/${node.name}:${PATHS.volumes}`,
    `${imagesFolder()}:${PATHS.images}:ro`,
    `${programs.kube}:${PATHS.kube}:ro`,
    `${programs.coredns}:${PATHS.coredns}:ro`,
    `${programs.node}:${PATHS.node}:ro`,
    '/sys/fs/cgroup:/sys/fs/cgroup:rw',
  ];
  return [
    ['docker', 'create', '--name', node.name, '--hostname', node.name],
    ['--label', LABEL, '--label', `${CACHE_LABEL}=${cacheFolder()}`, '--label', `${SOURCE_LABEL}=${sourceKey}`],
    ['--network', NETWORK, '--ip', node.address],
    ['--cap-drop', 'ALL', ...granted.flatMap((capability) => ['--cap-add', capability])],
    ['--security-opt', 'seccomp=unconfined', '--security-opt', 'apparmor=unconfined'],
    ['--device-cgroup-rule', 'a *:* rwm', '--cgroupns', 'host'],
    ['--tmpfs', '/run:exec', '--tmpfs', '/tmp'],
    mounts.flatMap((mount) => ['--volume', mount]),
    image,
  ].flat();
}

export function networkCommand(layout: Layout): string[] {
  return [
    ['docker', 'network', 'create', '--label', LABEL],
    ['--subnet', layout.nodeCidr, '--gateway', layout.gateway],
    ['--opt', `com.docker.network.driver.mtu=${MTU}`, NETWORK],
  ].flat();
}

/** So that programs on this machine reach pods and services: pods through their node, services through the control plane. */
export function hostRoutes(layout: Layout, serviceCidr: string): string[][] {
  return [
    ...layout.nodes.map((node) => ['ip', 'route', 'replace', node.podCidr, 'via', node.address]),
    ['ip', 'route', 'replace', serviceCidr, 'via', layout.controlPlane.address],
  ];
}
