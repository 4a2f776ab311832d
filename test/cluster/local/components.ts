// The programs of a node and their command lines, as `meridian-node init` reads them (go/node/init.go). Pure: a layout
// and a node in, data out. Paths are those inside the node's container; files.ts renders the files they point at.
import { API_PORT, CLUSTER_DOMAIN, type Layout, NETWORK, type NodeLayout, SERVICE_CIDR } from './layout.ts';
import { FRONT_PROXY_USER } from './pki.ts';

/** Where the containers see what the cluster program mounts. */
export const PATHS = {
  config: '/etc/meridian',
  kube: '/opt/kube',
  coredns: '/opt/coredns',
  node: '/opt/node',
  logs: '/var/log/meridian',
  etcd: '/var/lib/etcd',
  /** Images on their way into containerd. */
  images: '/var/lib/meridian/images',
  /** A node's own volumes. */
  volumes: '/var/lib/meridian/volumes',
  /** Every node's volumes, on the control plane, where the provisioner makes and removes their folders. */
  allVolumes: '/var/lib/meridian/all-volumes',
} as const;

/** Packets pass here last, after the address of a service became that of a pod: see faults/network.ts. */
export const FAULT_CHAIN = 'MERIDIAN-FAULTS';

export interface InitCommand {
  readonly argv: readonly string[];
  readonly mayFail?: boolean;
}

export interface Component {
  readonly name: string;
  readonly argv: readonly string[];
  readonly waitForUrl?: string;
  readonly caFile?: string;
  readonly prepare?: readonly (readonly string[])[];
}

export interface InitConfiguration {
  readonly setup: readonly InitCommand[];
  readonly components: readonly Component[];
  readonly logFolder: string;
}

const config = (file: string): string => `${PATHS.config}/${file}`;
const kube = (program: string): string => `${PATHS.kube}/${program}`;

export function initConfiguration(layout: Layout, node: NodeLayout): InitConfiguration {
  const isControlPlane = node.name === layout.controlPlane.name;
  return {
    setup: setupCommands(layout, node),
    components: [...(isControlPlane ? controlPlaneComponents(layout) : []), ...nodeComponents(layout, node)],
    logFolder: PATHS.logs,
  };
}

function setupCommands(layout: Layout, node: NodeLayout): InitCommand[] {
  const routes = layout.nodes
    .filter((other) => other.name !== node.name)
    .map((other) => ({ argv: ['ip', 'route', 'replace', other.podCidr, 'via', other.address] }));
  return [
    { argv: ['mount', '-o', 'remount,rw', '/proc/sys'] },
    // Volumes that the kubelet mounts must be seen by the containers it starts.
    { argv: ['mount', '--make-rshared', '/'] },
    // A kubelet wants the kernel's log, which a container has no right to.
    { argv: ['ln', '-sf', '/dev/null', '/dev/kmsg'] },
    { argv: ['sysctl', '-qw', 'net.ipv4.ip_forward=1'] },
    // The delay router (faults/latency.ts) sends packets back in through another device than they will be answered by.
    { argv: ['sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0'] },
    // Without it a pod can't reach itself or a neighbour on its own node through a service.
    { argv: ['sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=1'], mayFail: true },
    ...routes,
    { argv: ['iptables', '-t', 'mangle', '-N', FAULT_CHAIN] },
    { argv: ['iptables', '-t', 'mangle', '-A', 'POSTROUTING', '-j', FAULT_CHAIN] },
  ];
}

function controlPlaneComponents(layout: Layout): Component[] {
  const { address } = layout.controlPlane;
  return [
    {
      name: 'etcd',
      argv: [
        kube('etcd'),
        `--data-dir=${PATHS.etcd}`,
        '--listen-client-urls=https://127.0.0.1:2379',
        '--advertise-client-urls=https://127.0.0.1:2379',
        `--cert-file=${config('pki/etcd-server.crt')}`,
        `--key-file=${config('pki/etcd-server.key')}`,
        `--trusted-ca-file=${config('pki/etcd-ca.crt')}`,
        '--client-cert-auth',
        // Nothing in a test cluster is worth a disk flush per write; it halves the time of many tests.
        '--unsafe-no-fsync',
        '--log-level=warn',
      ],
    },
    {
      name: 'kube-apiserver',
      argv: [
        kube('kube-apiserver'),
        '--etcd-servers=https://127.0.0.1:2379',
        `--etcd-cafile=${config('pki/etcd-ca.crt')}`,
        `--etcd-certfile=${config('pki/apiserver-etcd-client.crt')}`,
        `--etcd-keyfile=${config('pki/apiserver-etcd-client.key')}`,
        `--secure-port=${API_PORT}`,
        '--bind-address=0.0.0.0',
        `--advertise-address=${address}`,
        `--tls-cert-file=${config('pki/apiserver.crt')}`,
        `--tls-private-key-file=${config('pki/apiserver.key')}`,
        `--client-ca-file=${config('pki/ca.crt')}`,
        `--authentication-config=${config('authentication.yaml')}`,
        '--authorization-mode=Node,RBAC',
        '--enable-admission-plugins=NodeRestriction',
        '--allow-privileged=true',
        `--service-cluster-ip-range=${SERVICE_CIDR}`,
        `--service-account-issuer=https://kubernetes.default.svc.${CLUSTER_DOMAIN}`,
        `--service-account-key-file=${config('pki/service-accounts.pub')}`,
        `--service-account-signing-key-file=${config('pki/service-accounts.key')}`,
        `--kubelet-certificate-authority=${config('pki/ca.crt')}`,
        `--kubelet-client-certificate=${config('pki/apiserver-kubelet-client.crt')}`,
        `--kubelet-client-key=${config('pki/apiserver-kubelet-client.key')}`,
        '--kubelet-preferred-address-types=InternalIP',
        `--proxy-client-cert-file=${config('pki/front-proxy-client.crt')}`,
        `--proxy-client-key-file=${config('pki/front-proxy-client.key')}`,
        `--requestheader-client-ca-file=${config('pki/front-proxy-ca.crt')}`,
        `--requestheader-allowed-names=${FRONT_PROXY_USER}`,
        '--requestheader-username-headers=X-Remote-User',
        '--requestheader-group-headers=X-Remote-Group',
        '--requestheader-extra-headers-prefix=X-Remote-Extra-',
        '--profiling=false',
      ],
    },
    {
      name: 'kube-controller-manager',
      ...onceApiServerIsReady(layout),
      argv: [
        kube('kube-controller-manager'),
        `--kubeconfig=${config('controller-manager.kubeconfig')}`,
        `--authentication-kubeconfig=${config('controller-manager.kubeconfig')}`,
        `--authorization-kubeconfig=${config('controller-manager.kubeconfig')}`,
        '--bind-address=127.0.0.1',
        '--use-service-account-credentials',
        `--service-account-private-key-file=${config('pki/service-accounts.key')}`,
        `--root-ca-file=${config('pki/ca.crt')}`,
        `--cluster-signing-cert-file=${config('pki/ca.crt')}`,
        `--cluster-signing-key-file=${config('pki/ca.key')}`,
        '--allocate-node-cidrs=false',
        '--leader-elect=false',
        // A lost node shows after 16 s, not 50; kubelets renew their leases every 3 s (files.ts).
        '--node-monitor-grace-period=16s',
      ],
    },
    {
      name: 'kube-scheduler',
      ...onceApiServerIsReady(layout),
      argv: [
        kube('kube-scheduler'),
        `--kubeconfig=${config('scheduler.kubeconfig')}`,
        `--authentication-kubeconfig=${config('scheduler.kubeconfig')}`,
        `--authorization-kubeconfig=${config('scheduler.kubeconfig')}`,
        '--bind-address=127.0.0.1',
        '--leader-elect=false',
      ],
    },
    {
      name: 'volumes',
      ...onceApiServerIsReady(layout),
      argv: [
        kube('volumes'),
        `--kubeconfig=${config('volumes.kubeconfig')}`,
        `--folder=${PATHS.allVolumes}`,
        `--node-folder=${PATHS.volumes}`,
      ],
    },
  ];
}

function nodeComponents(layout: Layout, node: NodeLayout): Component[] {
  return [
    { name: 'containerd', argv: ['containerd', '-c', config('containerd.toml')] },
    {
      name: 'kubelet',
      ...onceApiServerIsReady(layout),
      prepare: [['ctr', '-n', 'k8s.io', 'images', 'import', config('pause.tar')]],
      argv: [
        kube('kubelet'),
        `--config=${config('kubelet.yaml')}`,
        `--kubeconfig=${config('kubelet.kubeconfig')}`,
        `--hostname-override=${node.name}`,
        `--node-ip=${node.address}`,
        `--node-labels=${nodeLabels(node)}`,
        // Known only inside the container. Without it pods live outside the node's cgroup: freezing the node would
        // leave them running, and the kubelets would delete each other's pods' cgroups.
        // biome-ignore lint/suspicious/noTemplateCurlyInString: filled in by `meridian-node init`
        '--cgroup-root=${NODE_CGROUP}',
        // Statistics of every container on one machine's two cores: the default of 10 s is a good part of its idle load.
        '--housekeeping-interval=30s',
      ],
    },
    {
      name: 'kube-proxy',
      ...onceApiServerIsReady(layout),
      argv: [kube('kube-proxy'), `--config=${config('kube-proxy.yaml')}`],
    },
    {
      // One per node: names resolve in a region as long as the region itself lives, cut off from the others or not.
      name: 'coredns',
      argv: [`${PATHS.coredns}/coredns`, '-conf', config('Corefile')],
    },
  ];
}

/** A kubelet that starts before its API server gives up instead of waiting. */
function onceApiServerIsReady(layout: Layout): Pick<Component, 'waitForUrl' | 'caFile'> {
  return { waitForUrl: `${layout.apiServer}/readyz`, caFile: config('pki/ca.crt') };
}

/** Only labels that the NodeRestriction admission plugin lets a kubelet set on itself. */
export function nodeLabels(node: NodeLayout): string {
  const labels = { 'topology.kubernetes.io/region': node.region, 'topology.kubernetes.io/zone': zoneOf(node) };
  return Object.entries(labels)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${value}`)
    .concat(`meridian.test/cluster=${NETWORK}`)
    .join(',');
}

function zoneOf(node: NodeLayout): string | null {
  return node.region === null ? null : `${node.region}-1`;
}
