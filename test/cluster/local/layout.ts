// Names and addresses of the local cluster: one control plane and three regions, each a container on one Docker network.
// Pod networks are fixed per node, not handed out by the controller manager, so that routes can be laid before the
// nodes register and a node comes back to the same addresses.

export const NETWORK = 'meridian';
export const REGIONS = ['eu', 'us', 'ap'] as const;
export const CLUSTER_DOMAIN = 'cluster.local';
export const CLUSTER_CIDR = '10.244.0.0/16';
export const SERVICE_CIDR = '10.96.0.0/16';
/** The first address of the service range is the API server's own service. */
export const API_SERVICE_ADDRESS = '10.96.0.1';
export const API_PORT = 6443;

/** First three bytes of the nodes' /24; the first that collides with nothing on the machine is taken. */
export const NODE_PREFIXES = ['172.30.77', '172.29.77', '10.213.77', '192.168.213'] as const;

export interface NodeLayout {
  /** Name of the container, of its host and of the Kubernetes node. */
  readonly name: string;
  /** Null for the control plane. */
  readonly region: string | null;
  readonly address: string;
  readonly podCidr: string;
}

export interface Layout {
  readonly nodeCidr: string;
  readonly gateway: string;
  readonly apiServer: string;
  readonly controlPlane: NodeLayout;
  readonly nodes: readonly NodeLayout[];
}

export function layoutFor(nodePrefix: string): Layout {
  const controlPlane: NodeLayout = {
    name: 'meridian-cp',
    region: null,
    address: `${nodePrefix}.10`,
    podCidr: '10.244.0.0/24',
  };
  const regions = REGIONS.map((region, index) => ({
    name: `meridian-${region}`,
    region,
    address: `${nodePrefix}.${11 + index}`,
    podCidr: `10.244.${index + 1}.0/24`,
  }));
  return {
    nodeCidr: `${nodePrefix}.0/24`,
    gateway: `${nodePrefix}.1`,
    apiServer: `https://${controlPlane.address}:${API_PORT}`,
    controlPlane,
    nodes: [controlPlane, ...regions],
  };
}

/** `used` are the networks that the machine's routes already lead to. */
export function chooseNodePrefix(used: readonly string[]): string {
  for (const cidr of [CLUSTER_CIDR, SERVICE_CIDR]) {
    const taken = used.find((other) => overlaps(cidr, other));
    if (taken !== undefined)
      throw new Error(`the cluster's network ${cidr} collides with this machine's route to ${taken}`);
  }
  const free = NODE_PREFIXES.find((prefix) => !used.some((other) => overlaps(`${prefix}.0/24`, other)));
  if (free === undefined) throw new Error(`no free network for the nodes among ${NODE_PREFIXES.join(', ')}`);
  return free;
}

export function overlaps(a: string, b: string): boolean {
  const left = parseCidr(a);
  const right = parseCidr(b);
  const bits = Math.min(left.bits, right.bits);
  // Shifting by 32 is shifting by 0 in JavaScript: an empty prefix overlaps with everything.
  if (bits === 0) return true;
  return left.address >>> (32 - bits) === right.address >>> (32 - bits);
}

function parseCidr(cidr: string): { address: number; bits: number } {
  const [address = '', bits = '32'] = cidr.split('/');
  const bytes = address.split('.').map(Number);
  if (bytes.length !== 4 || bytes.some((byte) => !Number.isInteger(byte) || byte < 0 || byte > 255)) {
    throw new Error(`not an IPv4 network: ${cidr}`);
  }
  return { address: bytes.reduce((sum, byte) => sum * 256 + byte, 0), bits: Number(bits) };
}

/** Networks in the output of `ip -4 route show table all`, without the default route. */
export function routedNetworks(ipRouteOutput: string): string[] {
  return ipRouteOutput
    .split('\n')
    .map((line) => /^(?:unreachable |blackhole |prohibit )?(\d+\.\d+\.\d+\.\d+(?:\/\d+)?)\s/.exec(line)?.[1])
    .filter((network) => network !== undefined);
}
