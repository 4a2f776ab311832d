// Every file of a node's /etc/meridian, rendered: a layout, a node and the PKI in, file names and contents out.
import { stringify } from 'yaml';
import type { PemPair } from './certificates.ts';
import { initConfiguration, PATHS } from './components.ts';
import { kubeconfig } from './kubeconfig.ts';
import { CLUSTER_CIDR, CLUSTER_DOMAIN, type Layout, type NodeLayout } from './layout.ts';
import type { Pki } from './pki.ts';

/** As the machine's own network has, in this project's test environments; a larger one would be cut up or lost. */
export const MTU = 1400;

export function nodeFiles(layout: Layout, node: NodeLayout, pki: Pki, pauseImage: string): Record<string, string> {
  const own = pki.nodes.get(node.name);
  if (own === undefined) throw new Error(`no certificates for node ${node.name}`);
  const authority = pki.authorities.cluster.certificate;
  const client = (name: string, from: Readonly<Record<string, PemPair>> = own): string =>
    kubeconfig(layout.apiServer, authority, pair(from, name));
  const files: Record<string, string> = {
    'node.json': `${JSON.stringify(initConfiguration(layout, node), null, 2)}\n`,
    'containerd.toml': containerdConfig(pauseImage),
    'cni/10-meridian.conflist': `${JSON.stringify(cniConfig(node), null, 2)}\n`,
    'kubelet.yaml': stringify(kubeletConfig(layout, node)),
    'kube-proxy.yaml': stringify(kubeProxyConfig(node)),
    Corefile: corefile(),
    'kubelet.kubeconfig': client('kubelet'),
    'kube-proxy.kubeconfig': client('proxy'),
    'coredns.kubeconfig': client('dns'),
    'pki/ca.crt': authority,
    ...pemFiles('kubelet-server', pair(own, 'kubelet-server')),
  };
  if (node.name !== layout.controlPlane.name) return files;
  return {
    ...files,
    'authentication.yaml': stringify(authenticationConfig()),
    'controller-manager.kubeconfig': client('controller-manager', pki.cluster),
    'scheduler.kubeconfig': client('scheduler', pki.cluster),
    'volumes.kubeconfig': client('volumes', pki.cluster),
    'pki/ca.key': pki.authorities.cluster.key,
    'pki/etcd-ca.crt': pki.authorities.etcd.certificate,
    'pki/front-proxy-ca.crt': pki.authorities['front-proxy'].certificate,
    'pki/service-accounts.pub': pki.serviceAccounts.publicKey,
    'pki/service-accounts.key': pki.serviceAccounts.privateKey,
    ...Object.assign(
      {},
      ...['apiserver', 'apiserver-kubelet-client', 'apiserver-etcd-client', 'etcd-server', 'front-proxy-client'].map(
        (name) => pemFiles(name, pair(pki.cluster, name)),
      ),
    ),
  };
}

function pair(from: Readonly<Record<string, PemPair>>, name: string): PemPair {
  const found = from[name];
  if (found === undefined) throw new Error(`no certificate named ${name}`);
  return found;
}

function pemFiles(name: string, { certificate, key }: PemPair): Record<string, string> {
  return { [`pki/${name}.crt`]: certificate, [`pki/${name}.key`]: key };
}

/** Without credentials one may ask whether the API server lives (the nodes' init does), and nothing else. */
function authenticationConfig(): unknown {
  return {
    apiVersion: 'apiserver.config.k8s.io/v1',
    kind: 'AuthenticationConfiguration',
    anonymous: { enabled: true, conditions: ['/livez', '/readyz', '/healthz'].map((path) => ({ path })) },
  };
}

export function kubeletConfig(layout: Layout, node: NodeLayout): Record<string, unknown> {
  const isControlPlane = node.name === layout.controlPlane.name;
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: `${PATHS.config}/pki/ca.crt` },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: `${PATHS.config}/pki/kubelet-server.crt`,
    tlsPrivateKeyFile: `${PATHS.config}/pki/kubelet-server.key`,
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    clusterDNS: [node.address],
    clusterDomain: CLUSTER_DOMAIN,
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: true,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    protectKernelDefaults: false,
    // The machine may lack CAP_SYS_RESOURCE; with this the kubelet tolerates it.
    featureGates: { KubeletInUserNamespace: true },
    localStorageCapacityIsolation: false,
    nodeStatusUpdateFrequency: '4s',
    // A kubelet renews its lease after a quarter of this.
    nodeLeaseDurationSeconds: 12,
    // The nodes share one disk with everything else on the machine: how full it is is not theirs to judge.
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'memory.available': '100Mi' },
    serializeImagePulls: false,
    ...(isControlPlane
      ? { registerWithTaints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }] }
      : {}),
  };
}

function kubeProxyConfig(node: NodeLayout): Record<string, unknown> {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    clientConnection: { kubeconfig: `${PATHS.config}/kube-proxy.kubeconfig` },
    hostnameOverride: node.name,
    mode: 'iptables',
    clusterCIDR: CLUSTER_CIDR,
    // Kernel limits that belong to the machine, not to a container: 0 leaves them alone.
    conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    iptables: { localhostNodePorts: false, minSyncPeriod: '200ms' },
  };
}

function containerdConfig(pauseImage: string): string {
  return `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/${pauseImage}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "${PATHS.config}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`;
}

function cniConfig(node: NodeLayout): unknown {
  return {
    cniVersion: '1.0.0',
    name: 'meridian',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        ipMasq: false,
        hairpinMode: true,
        mtu: MTU,
        ipam: {
          type: 'host-local',
          ranges: [[{ subnet: node.podCidr }]],
          routes: [{ dst: '0.0.0.0/0' }],
          // In memory: after a restart of the node no pod of before holds an address.
          dataDir: '/run/cni',
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

/** Short times to live: in a test a pod's address changes all the time, and the API server's watch is next door. */
function corefile(): string {
  return `.:53 {
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes ${CLUSTER_DOMAIN} in-addr.arpa {
        kubeconfig ${PATHS.config}/coredns.kubeconfig
        ttl 2
        fallthrough in-addr.arpa
    }
    forward . /etc/resolv.conf
    cache {
        success 1024 2
        denial 1024 1
    }
}
`;
}
