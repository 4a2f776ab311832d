/** The objects of the keyspace that the faults are tried on: one shard over three regions, a router in each, one tenant. */
import { stringify } from 'yaml';
import { historyRole, historyTables, historyTenant } from '../history/workload.ts';

export const regions = ['eu', 'us', 'ap'] as const;
export type RegionName = (typeof regions)[number];

export interface ShardWish {
  readonly keyspace: string;
  /** k. */
  readonly acknowledgements: number;
  readonly storageClassName?: string;
}

export const shardName = (keyspace: string): string => `${keyspace}-one`;
export const replicaName = (keyspace: string, region: string): string => `${shardName(keyspace)}-${region}`;

export function faultManifests({ keyspace, acknowledgements, storageClassName }: ShardWish): string {
  const shard = shardName(keyspace);
  const requests = { cpu: '50m', memory: '128Mi' };
  const objects = [
    ...regions.map((name) => object('Region', name, { proximity: regions.filter((other) => other !== name) })),
    object('Keyspace', keyspace, {
      tenantKey: { column: 'tenant_id', type: 'text' },
      roles: [{ name: historyRole, tenants: [historyTenant] }],
      consistency: { default: 'strong' },
      routers: {
        poolSize: 16,
        maxClients: 200,
        regions: regions.map((region) => ({ region, resources: { requests } })),
      },
      migrations: [{ name: '0001-histories', sql: historyTables }],
    }),
    object('Shard', shard, {
      keyspace,
      primaryRegion: regions[0],
      postgres: { version: '17', parameters: { shared_buffers: '32MB', max_wal_size: '256MB' } },
      resources: { requests: { cpu: '50m', memory: '192Mi' } },
      storage: {
        size: storageClassName === undefined ? '1Gi' : '512Mi',
        ...(storageClassName === undefined ? {} : { storageClassName }),
      },
      durability: { acknowledgements, scope: 'AnyMember', onLoss: 'Block' },
    }),
    ...regions.map((region) =>
      object('RegionalReplica', replicaName(keyspace, region), { shard, region, instances: 1 }),
    ),
    object('Tenant', historyTenant, { keyspace, key: historyTenant, shard }),
  ];
  return objects.map((each) => stringify(each)).join('---\n');
}

function object(kind: string, name: string, spec: object): unknown {
  return { apiVersion: 'meridian.db/v1alpha1', kind, metadata: { name }, spec };
}
