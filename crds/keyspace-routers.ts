/**
 * The part of a Keyspace that says where routers run and how clients reach them.
 */
import { z } from 'zod';
import { mapOf, setOf } from './list.ts';
import { reference } from './object.ts';
import { resources } from './quantity.ts';
import { ruled } from './rule.ts';

export const serviceTypes = ['ClusterIP', 'NodePort', 'LoadBalancer'] as const;

/** Routers don't start with what is none. CEL's own functions for addresses are younger than the oldest Kubernetes that is supported. */
const byte = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const ipv4Range = `^(${byte}[.]){3}${byte}(/([0-9]|[12][0-9]|3[0-2]))?$`;
/** Groups between colons, all eight of them or fewer with one `::`. */
const ipv6Range =
  '^(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(([0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{1,4})?::(([0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{1,4})?)(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?$';
/** Nine groups or more. */
const notIpv6 = '(:[0-9a-fA-F]*){8,}';

const routerRegion = ruled(
  z.strictObject({
    region: reference('region').describe('The Region whose nodes they run on.'),
    replicas: z
      .int()
      .min(0)
      .max(100)
      .default(1)
      .describe(
        'How many router pods, 0 to 100. 2 or more let clients reconnect at once when one goes away. Default: 1.',
      ),
    resources: resources.optional().describe('CPU and memory of each router pod. Left out: no requests and no limits.'),
    workers: z
      .int()
      .min(1)
      .max(16)
      .default(1)
      .describe(
        'Event loops of each router pod, each in a thread of its own on the one port, 1 to 16: about as many as the pod has ' +
          'CPUs for. Its poolSize is divided among them. A change replaces the pods one by one. Default: 1.',
      ),
    serviceType: z
      .enum(serviceTypes)
      .default('ClusterIP')
      .describe(
        'How clients reach them: ClusterIP (within the cluster), NodePort (a port on every node) or LoadBalancer. ' +
          'Default: ClusterIP.',
      ),
    nodePort: z
      .int()
      .min(1)
      .max(65_535)
      .optional()
      .describe('The port on every node, for the types NodePort and LoadBalancer. Left out: the cluster chooses.'),
    proxyProtocolFrom: setOf(
      ruled(z.string().min(1).max(43), {
        cel: `self.matches('${ipv4Range}') || (self.matches('${ipv6Range}') && !self.matches('${notIpv6}'))`,
        message: 'an IP address, or a range of them such as 10.0.0.0/8',
        holds: (range) =>
          new RegExp(ipv4Range).test(range) || (new RegExp(ipv6Range).test(range) && !new RegExp(notIpv6).test(range)),
      }),
      64,
    )
      .optional()
      .describe(
        'Addresses and ranges (10.0.0.0/8) of load balancers that begin each connection with a PROXY protocol header (version ' +
          '1 or 2). From these a header is demanded, from others none is taken. 64 at most. Left out: none.',
      ),
  }),
  {
    cel: "!has(self.nodePort) || self.serviceType != 'ClusterIP'",
    message: 'nodePort needs serviceType NodePort or LoadBalancer: a ClusterIP service has no port on the nodes',
    holds: ({ nodePort, serviceType }) => nodePort === undefined || serviceType !== 'ClusterIP',
  },
);

export const routers = z.strictObject({
  regions: ruled(mapOf(routerRegion, 'region', 64), {
    cel: 'self.all(r, !has(r.nodePort) || self.exists_one(o, has(o.nodePort) && o.nodePort == r.nodePort))',
    message: 'two regions ask for the same nodePort: a node port belongs to one Service of the cluster',
    holds: (list) => {
      const asked = list.flatMap(({ nodePort }) => (nodePort === undefined ? [] : [nodePort]));
      return new Set(asked).size === asked.length;
    },
  })
    .default([])
    .describe(
      'The regions that have routers, each with a Deployment and a Service KEYSPACE-router-REGION. Default: none.',
    ),
  poolSize: z
    .int()
    .min(1)
    .max(1000)
    .default(10)
    .describe('Postgres connections that one router keeps at most for each role and member, 1 to 1000. Default: 10.'),
  maxClients: z
    .int()
    .min(1)
    .max(100_000)
    .default(1000)
    .describe('Client connections that one router accepts at most, 1 to 100000. Default: 1000.'),
  prepareSimpleQueries: z
    .boolean()
    .default(true)
    .describe(
      'Sends simple queries to members as prepared statements with their constants as parameters, so that Postgres plans ' +
        'each shape once. False: as they come, planned each time. A change replaces the pods one by one. Default: true.',
    ),
  idleSessionTimeoutMs: z
    .int()
    .min(0)
    .max(2_147_483_647)
    .default(0)
    .describe(
      'Milliseconds after which a client that says nothing, outside a transaction, is disconnected (57P05), as ' +
        "Postgres' idle_session_timeout. 0: never. Default: 0.",
    ),
  idleInTransactionSessionTimeoutMs: z
    .int()
    .min(0)
    .max(2_147_483_647)
    .default(300_000)
    .describe(
      'Milliseconds after which a client that says nothing in an open transaction is disconnected (25P03) and its ' +
        "transaction undone, as Postgres' idle_in_transaction_session_timeout: it holds a connection that others wait " +
        'for. 0: the ten minutes that members allow. Default: 300000 (five minutes).',
    ),
});
