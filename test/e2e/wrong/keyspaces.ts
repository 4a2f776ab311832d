/** Keyspaces that are wrong in themselves. */
import { keyspace, type WrongObject } from './manifest.ts';

export const keyspaces: readonly WrongObject[] = [
  { name: 'a keyspace with capitals in its name', object: keyspace({}, 'Shop'), message: 'Invalid value: "Shop"' },
  {
    name: 'a keyspace whose name is too long',
    object: keyspace({}, 'k'.repeat(31)),
    message: 'may not be more than 30 bytes',
  },
  {
    name: "a keyspace that would have Postgres' own database",
    object: keyspace({}, 'postgres'),
    message: "the keyspace's name would give a database that Postgres itself has",
  },
  {
    name: 'a database with a hyphen',
    object: keyspace({ database: 'my-shop' }),
    message: 'a database name is lower-case letters',
  },
  {
    name: 'a template as database',
    object: keyspace({ database: 'template1' }),
    message: "are Postgres' own databases",
  },
  {
    name: 'an unknown tenant key type',
    object: keyspace({ tenantKey: { type: 'varchar' } }),
    message: 'supported values: "text", "uuid", "bigint", "integer"',
  },
  {
    name: 'a tenant key column that needs quotes',
    object: keyspace({ tenantKey: { column: 'Tenant' } }),
    message: 'a column name is lower-case letters',
  },
  {
    name: 'a migration with its SQL in two places',
    object: keyspace({ migrations: [{ name: '0001', sql: 'select 1', configMapKeyRef: { name: 'm', key: 'k' } }] }),
    message: 'a migration has its SQL in exactly one place',
  },
  {
    name: 'a migration without SQL',
    object: keyspace({ migrations: [{ name: '0001' }] }),
    message: 'a migration has its SQL in exactly one place',
  },
  {
    name: 'migrations out of order',
    object: keyspace({
      migrations: [
        { name: '0002-b', sql: 'select 1' },
        { name: '0001-a', sql: 'select 1' },
      ],
    }),
    message: 'migrations run in the order of their names',
  },
  {
    name: 'a migration twice',
    object: keyspace({
      migrations: [
        { name: '0001', sql: 'select 1' },
        { name: '0001', sql: 'select 2' },
      ],
    }),
    message: 'Duplicate value',
  },
  { name: 'a reference table twice', object: keyspace({ referenceTables: ['a', 'a'] }), message: 'Duplicate value' },
  {
    name: 'a reference table twice, once with its schema',
    object: keyspace({ referenceTables: ['currencies', 'public.currencies'] }),
    message: 'a reference table is listed twice',
  },
  {
    name: "a reference table in Meridian's schema",
    object: keyspace({ referenceTables: ['meridian.tenants'] }),
    message: 'are not yours to declare',
  },
  {
    name: 'a reference table with a bad name',
    object: keyspace({ referenceTables: ['a.b.c'] }),
    message: 'a table is name or schema.name',
  },
  {
    name: 'an unknown consistency level',
    object: keyspace({ consistency: { default: 'linearizable' } }),
    message: 'supported values: "strong", "causal", "bounded", "eventual"',
  },
  {
    name: 'a consistency rule for a table and a workflow',
    object: keyspace({ consistency: { rules: [{ table: 'stock', workflow: 'reports', level: 'eventual' }] } }),
    message: 'a rule is for exactly one of table, workflow or role',
  },
  {
    name: 'a consistency rule for nothing',
    object: keyspace({ consistency: { rules: [{ level: 'eventual' }] } }),
    message: 'a rule is for exactly one of table, workflow or role',
  },
  {
    name: 'two consistency rules for one table',
    object: keyspace({
      consistency: {
        rules: [
          { table: 'stock', level: 'eventual' },
          { table: 'stock', level: 'strong' },
        ],
      },
    }),
    message: 'two rules are for the same table, workflow or role',
  },
  {
    name: 'a bounded rule without a bound',
    object: keyspace({ consistency: { rules: [{ table: 'stock', level: 'bounded' }] } }),
    message: 'maxStalenessMs belongs to the level bounded',
  },
  {
    name: 'a bound on a strong rule',
    object: keyspace({ consistency: { rules: [{ table: 'stock', level: 'strong', maxStalenessMs: 500 }] } }),
    message: 'maxStalenessMs belongs to the level bounded',
  },
  {
    name: 'a bounded default without a bound',
    object: keyspace({ consistency: { default: 'bounded' } }),
    message: 'maxStalenessMs belongs to the level bounded',
  },
  {
    name: 'a consistency rule for a role that the keyspace does not have',
    object: keyspace({
      roles: [{ name: 'app', anyTenant: true }],
      consistency: { rules: [{ role: 'reports', level: 'eventual' }] },
    }),
    message: 'spec.consistency.rules names a role that spec.roles does not have',
  },
  {
    name: 'a role with tenants and anyTenant',
    object: keyspace({ roles: [{ name: 'app', tenants: ['acme'], anyTenant: true }] }),
    message: 'a role acts for exactly one of tenants',
  },
  {
    name: 'a role that acts for nobody',
    object: keyspace({ roles: [{ name: 'app' }] }),
    message: 'a role acts for exactly one of tenants',
  },
  {
    name: 'a role with an empty list',
    object: keyspace({ roles: [{ name: 'app', tenants: [] }] }),
    message: 'should have at least 1 item',
  },
  {
    name: 'an unknown right at the admin database',
    object: keyspace({ roles: [{ name: 'ops', admin: 'all' }] }),
    message: 'supported values: "stats", "full"',
  },
  {
    name: 'a client certificate that is false',
    object: keyspace({ roles: [{ name: 'app', anyTenant: true, clientCertificate: false }] }),
    message: 'supported values: "true"',
  },
  {
    name: 'an end of a role that is no time',
    object: keyspace({ roles: [{ name: 'app', anyTenant: true, validUntil: 'tomorrow' }] }),
    message: 'a time as in RFC 3339',
  },
  {
    name: 'a role without a connection',
    object: keyspace({ roles: [{ name: 'app', anyTenant: true, limits: { connections: 0 } }] }),
    message: 'should be greater than or equal to 1',
  },
  {
    name: 'anyTenant that is false',
    object: keyspace({ roles: [{ name: 'app', anyTenant: false }] }),
    message: 'supported values: "true"',
  },
  {
    name: "a role with one of Meridian's names",
    object: keyspace({ roles: [{ name: 'meridian_owner', anyTenant: true }] }),
    message: 'names that start with pg_ or meridian',
  },
  {
    name: "a role with one of Postgres' names",
    object: keyspace({ roles: [{ name: 'pg_monitor', anyTenant: true }] }),
    message: 'names that start with pg_ or meridian',
  },
  {
    name: 'a role called public',
    object: keyspace({ roles: [{ name: 'public', anyTenant: true }] }),
    message: 'choose another',
  },
  {
    name: 'a role whose name has a hyphen',
    object: keyspace({ roles: [{ name: 'shop-app', anyTenant: true }] }),
    message: "a role's name is lower-case letters, digits and _",
  },
  {
    name: 'a role whose name ends with an underscore',
    object: keyspace({ roles: [{ name: 'app_', anyTenant: true }] }),
    message: 'does not end with _',
  },
  {
    name: 'a role twice',
    object: keyspace({
      roles: [
        { name: 'app', anyTenant: true },
        { name: 'app', tenants: ['acme'] },
      ],
    }),
    message: 'Duplicate value',
  },
  {
    name: 'a tenant twice in a role',
    object: keyspace({ roles: [{ name: 'app', tenants: ['acme', 'acme'] }] }),
    message: 'Duplicate value',
  },
  {
    name: 'a tenant key with a blank at its end',
    object: keyspace({ roles: [{ name: 'app', tenants: ['acme '] }] }),
    message: 'a tenant key has no control characters',
  },
  {
    name: 'routers of one region twice',
    object: keyspace({ routers: { regions: [{ region: 'eu' }, { region: 'eu', replicas: 2 }] } }),
    message: 'Duplicate value',
  },
  {
    name: 'a negative number of routers',
    object: keyspace({ routers: { regions: [{ region: 'eu', replicas: -1 }] } }),
    message: 'should be greater than or equal to 0',
  },
  {
    name: 'an absurd number of routers',
    object: keyspace({ routers: { regions: [{ region: 'eu', replicas: 1000 }] } }),
    message: 'should be less than or equal to 100',
  },
  {
    name: 'a node port on a ClusterIP service',
    object: keyspace({ routers: { regions: [{ region: 'eu', nodePort: 30432 }] } }),
    message: 'nodePort needs serviceType NodePort or LoadBalancer',
  },
  {
    name: 'one node port for two regions',
    object: keyspace({
      routers: {
        regions: [
          { region: 'eu', serviceType: 'NodePort', nodePort: 30432 },
          { region: 'us', serviceType: 'NodePort', nodePort: 30432 },
        ],
      },
    }),
    message: 'two regions ask for the same nodePort',
  },
  {
    name: 'a load balancer by its name',
    object: keyspace({ routers: { regions: [{ region: 'eu', proxyProtocolFrom: ['balancer.example'] }] } }),
    message: 'an IP address, or a range of them such as 10.0.0.0/8',
  },
  {
    name: 'a range of addresses with too long a prefix',
    object: keyspace({ routers: { regions: [{ region: 'eu', proxyProtocolFrom: ['10.0.0.0/33'] }] } }),
    message: 'an IP address, or a range of them such as 10.0.0.0/8',
  },
  {
    name: 'routers that ask for no CPU',
    object: keyspace({ routers: { regions: [{ region: 'eu', resources: { requests: { cpu: 0 } } }] } }),
    message: 'must be a number of CPUs from 1m to 1024',
  },
  {
    name: 'an empty pool',
    object: keyspace({ routers: { poolSize: 0 } }),
    message: 'should be greater than or equal to 1',
  },
  {
    name: 'an overlap of passwords for ever',
    object: keyspace({ passwordOverlapSeconds: 31_536_000 }),
    message: 'should be less than or equal to',
  },
  {
    name: 'an unknown deletion policy',
    object: keyspace({ deletionPolicy: 'Keep' }),
    message: 'supported values: "Retain", "Delete"',
  },
  {
    name: 'another database for a keyspace',
    before: keyspace(),
    object: keyspace({ database: 'other' }),
    message: "spec.database can't be changed",
  },
  {
    name: 'another tenant key for a keyspace',
    before: keyspace({ tenantKey: { type: 'uuid' } }),
    object: keyspace({ tenantKey: { type: 'bigint' } }),
    message: "spec.tenantKey can't be changed",
  },
  {
    name: 'a tenant key taken away from a keyspace',
    before: keyspace({ tenantKey: { column: 'account_id', type: 'uuid' } }),
    object: keyspace(),
    message: "spec.tenantKey can't be changed",
  },
];
