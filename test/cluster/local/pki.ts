// Who holds which certificate in the local cluster, after Kubernetes' "PKI certificates and requirements": three
// authorities (cluster, etcd, front proxy), so that none can stand in for another, and one identity per program. A
// region's node gets the cluster's public certificate and its own identities only.
import {
  type Authority,
  createAuthority,
  createKeyPair,
  issue,
  type LeafRequest,
  type PemPair,
} from './certificates.ts';
import { API_SERVICE_ADDRESS, CLUSTER_DOMAIN, type Layout, type NodeLayout } from './layout.ts';

export type AuthorityName = 'cluster' | 'etcd' | 'front-proxy';

export interface Identity extends LeafRequest {
  readonly authority: AuthorityName;
}

export const DNS_USER = 'system:coredns';
export const VOLUMES_USER = 'meridian:volumes';
export const KUBELET_CLIENT_USER = 'kube-apiserver-kubelet-client';
export const FRONT_PROXY_USER = 'front-proxy-client';

/** Identities of the control plane and of the people who use the cluster, by the name of their files. */
export function clusterIdentities(layout: Layout): Readonly<Record<string, Identity>> {
  const { controlPlane } = layout;
  return {
    apiserver: {
      authority: 'cluster',
      commonName: 'kube-apiserver',
      usages: ['server'],
      dnsNames: [
        'kubernetes',
        'kubernetes.default',
        'kubernetes.default.svc',
        `kubernetes.default.svc.${CLUSTER_DOMAIN}`,
        'localhost',
        controlPlane.name,
      ],
      addresses: [controlPlane.address, API_SERVICE_ADDRESS, '127.0.0.1'],
    },
    'apiserver-kubelet-client': client(KUBELET_CLIENT_USER),
    'controller-manager': client('system:kube-controller-manager'),
    scheduler: client('system:kube-scheduler'),
    volumes: client(VOLUMES_USER),
    admin: client('meridian-admin', 'system:masters'),
    'etcd-server': {
      authority: 'etcd',
      commonName: 'etcd',
      usages: ['server', 'client'],
      dnsNames: ['localhost'],
      addresses: ['127.0.0.1'],
    },
    'apiserver-etcd-client': { authority: 'etcd', commonName: 'kube-apiserver-etcd-client', usages: ['client'] },
    'front-proxy-client': { authority: 'front-proxy', commonName: FRONT_PROXY_USER, usages: ['client'] },
  };
}

/** Identities that every node holds for itself; the node authorizer knows a kubelet by its name and group. */
export function nodeIdentities(node: NodeLayout): Readonly<Record<string, Identity>> {
  return {
    kubelet: client(`system:node:${node.name}`, 'system:nodes'),
    'kubelet-server': {
      authority: 'cluster',
      commonName: `system:node:${node.name}`,
      organizations: ['system:nodes'],
      usages: ['server'],
      dnsNames: [node.name],
      addresses: [node.address],
    },
    proxy: client('system:kube-proxy'),
    dns: client(DNS_USER),
  };
}

function client(commonName: string, ...organizations: string[]): Identity {
  return { authority: 'cluster', commonName, organizations, usages: ['client'] };
}

export interface Pki {
  readonly authorities: Readonly<Record<AuthorityName, Authority>>;
  readonly serviceAccounts: { readonly publicKey: string; readonly privateKey: string };
  readonly cluster: Readonly<Record<string, PemPair>>;
  readonly nodes: ReadonlyMap<string, Readonly<Record<string, PemPair>>>;
}

export async function createPki(layout: Layout, now: Date): Promise<Pki> {
  const authorities = {
    cluster: await createAuthority('meridian-cluster-ca', now),
    etcd: await createAuthority('meridian-etcd-ca', now),
    'front-proxy': await createAuthority('meridian-front-proxy-ca', now),
  };
  const issueAll = async (identities: Readonly<Record<string, Identity>>): Promise<Record<string, PemPair>> => {
    const entries = Object.entries(identities).map(
      async ([name, identity]) => [name, await issue(authorities[identity.authority], identity, now)] as const,
    );
    return Object.fromEntries(await Promise.all(entries));
  };
  const nodes = new Map<string, Record<string, PemPair>>();
  for (const node of layout.nodes) nodes.set(node.name, await issueAll(nodeIdentities(node)));
  return {
    authorities,
    serviceAccounts: await createKeyPair(),
    cluster: await issueAll(clusterIdentities(layout)),
    nodes,
  };
}
