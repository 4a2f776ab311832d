/**
 * Objects that are wrong in themselves, each with a part of the message by which the API server refuses it.
 * The unit tests hold them against the Zod schemas, the end-to-end test against a real API server.
 */

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Readonly<Record<string, unknown>>;
}

export interface WrongObject {
  /** What is wrong, as the name of a test. */
  readonly name: string;
  readonly object: Manifest;
  /** The object as it was, for changes that are refused. */
  readonly before?: Manifest;
  /** What the API server's message contains. */
  readonly message: string;
}

const manifest = (kind: string, name: string, spec: Record<string, unknown>): Manifest => ({
  apiVersion: 'meridian.db/v1alpha1',
  kind,
  metadata: { name },
  spec,
});

export const region = (spec: Record<string, unknown> = {}, name = 'eu') => manifest('Region', name, spec);
export const keyspace = (spec: Record<string, unknown> = {}, name = 'shop') => manifest('Keyspace', name, spec);
export const shard = (spec: Record<string, unknown> = {}, name = 'shop-a') =>
  manifest('Shard', name, { keyspace: 'shop', primaryRegion: 'eu', ...spec });
export const regionalReplica = (spec: Record<string, unknown> = {}, name = 'shop-a-eu') =>
  manifest('RegionalReplica', name, { shard: 'shop-a', region: 'eu', ...spec });
export const tenant = (spec: Record<string, unknown> = {}, name = 'acme') =>
  manifest('Tenant', name, { keyspace: 'shop', key: 'acme', ...spec });

const nameForm = "metadata.name must be lower-case letters, digits and '-'";
const labelForm = "must be lower-case letters, digits and '-'";

const regions: readonly WrongObject[] = [
  { name: 'a region whose name starts with a digit', object: region({}, '1st'), message: nameForm },
  {
    name: 'a region whose name is too long',
    object: region({}, 'a'.repeat(21)),
    message: 'may not be more than 20 bytes',
  },
  {
    name: 'a region in its own proximity list',
    object: region({ proximity: ['us', 'eu'] }),
    message: 'spec.proximity lists the other regions: take this region out of it',
  },
  {
    name: 'a region twice in a proximity list',
    object: region({ proximity: ['us', 'ap', 'us'] }),
    message: 'spec.proximity names a region twice',
  },
  { name: 'a bad name in a proximity list', object: region({ proximity: ['US East'] }), message: labelForm },
  { name: 'drain that is not a boolean', object: region({ drain: 'yes' }), message: 'must be of type boolean' },
  {
    name: 'a node selector with a bad label value',
    object: region({ nodeSelector: { zone: 'a'.repeat(64) } }),
    message: 'may not be more than 63 bytes',
  },
  {
    name: 'a node selector with a bad label key',
    object: region({ nodeSelector: { 'no spaces': 'a' } }),
    message: 'spec.nodeSelector has a key that is no label key',
  },
  {
    name: 'a field that a region does not have',
    object: region({ proximities: ['us'] }),
    message: 'unknown field "spec.proximities"',
  },
];

const keyspaces: readonly WrongObject[] = [
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

const shards: readonly WrongObject[] = [
  { name: 'a shard with an underscore in its name', object: shard({}, 'shop_a'), message: 'Invalid value: "shop_a"' },
  {
    name: 'a shard whose name is too long',
    object: shard({}, 's'.repeat(31)),
    message: 'may not be more than 30 bytes',
  },
  { name: 'a shard of no keyspace', object: shard({ keyspace: undefined }), message: 'spec.keyspace: Required value' },
  {
    name: 'a shard with no primary region',
    object: shard({ primaryRegion: '' }),
    message: 'should be at least 1 chars long',
  },
  {
    name: 'an unknown version of Postgres',
    object: shard({ postgres: { version: '12' } }),
    message: 'supported values: "17", "18"',
  },
  {
    name: 'a setting that authority rests on',
    object: shard({ postgres: { parameters: { synchronous_standby_names: '*' } } }),
    message: "one of these settings is Meridian's own",
  },
  {
    name: 'a setting that TLS rests on',
    object: shard({ postgres: { parameters: { ssl: 'off' } } }),
    message: "one of these settings is Meridian's own",
  },
  {
    name: 'a setting with a bad name',
    object: shard({ postgres: { parameters: { 'Work Mem': '16MB' } } }),
    message: 'the name of a setting is lower-case letters',
  },
  {
    name: 'a setting whose value is a number',
    object: shard({ postgres: { parameters: { max_connections: 200 } } }),
    message: 'must be of type string',
  },
  {
    name: 'a negative number of acknowledgements',
    object: shard({ durability: { acknowledgements: -1 } }),
    message: 'should be greater than or equal to 0',
  },
  {
    name: 'an absurd number of acknowledgements',
    object: shard({ durability: { acknowledgements: 9 } }),
    message: 'should be less than or equal to 8',
  },
  {
    name: 'half an acknowledgement',
    object: shard({ durability: { acknowledgements: 0.5 } }),
    message: 'must be of type integer',
  },
  {
    name: 'an unknown scope',
    object: shard({ durability: { scope: 'Anywhere' } }),
    message: 'supported values: "AnyMember", "OtherRegion"',
  },
  {
    name: 'a scope that contradicts no acknowledgements',
    object: shard({ durability: { acknowledgements: 0, scope: 'OtherRegion' } }),
    message: 'scope OtherRegion needs acknowledgements of at least 1',
  },
  {
    name: 'an unknown way of losing members',
    object: shard({ durability: { onLoss: 'Ignore' } }),
    message: 'supported values: "Block", "ShrinkMembership"',
  },
  {
    name: 'a misspelt field',
    object: shard({ durability: { acknowledgments: 2 } }),
    message: 'unknown field "spec.durability.acknowledgments"',
  },
  {
    name: 'an unknown failover mode',
    object: shard({ failover: { mode: 'auto' } }),
    message: 'supported values: "Automatic", "Manual"',
  },
  {
    name: 'a negative priority',
    object: shard({ failover: { priority: -5 } }),
    message: 'should be greater than or equal to 0',
  },
  {
    name: 'a volume that is too small',
    object: shard({ storage: { size: '10Mi' } }),
    message: 'must be a quantity of bytes from 256Mi to 64Ti',
  },
  {
    name: 'a negative volume',
    object: shard({ storage: { size: '-10Gi' } }),
    message: 'must be a quantity of bytes from 256Mi to 64Ti',
  },
  {
    name: 'a volume that is no quantity',
    object: shard({ storage: { size: 'big' } }),
    message: 'must be a quantity of bytes from 256Mi to 64Ti',
  },
  {
    name: 'memory that is no quantity',
    object: shard({ resources: { limits: { memory: '2 GB' } } }),
    message: 'must be a quantity of bytes from 16Mi to 24Ti',
  },
  {
    name: 'negative CPUs',
    object: shard({ resources: { requests: { cpu: '-1' } } }),
    message: 'must be a number of CPUs from 1m to 1024',
  },
  {
    name: 'a shard of another keyspace',
    before: shard(),
    object: shard({ keyspace: 'other' }),
    message: "spec.keyspace can't be changed",
  },
  {
    name: 'another major version for a shard',
    before: shard(),
    object: shard({ postgres: { version: '18' } }),
    message: "spec.postgres.version can't be changed",
  },
  {
    name: 'a shrunk volume',
    before: shard({ storage: { size: '20Gi' } }),
    object: shard({ storage: { size: '15Gi' } }),
    message: 'a volume can grow, never shrink',
  },
  {
    name: 'another storage class',
    before: shard({ storage: { storageClassName: 'fast' } }),
    object: shard({ storage: { storageClassName: 'slow' } }),
    message: "storageClassName can't be changed",
  },
];

const regionalReplicas: readonly WrongObject[] = [
  {
    name: 'a regional replica whose name is too long',
    object: regionalReplica({}, 'r'.repeat(46)),
    message: 'may not be more than 45 bytes',
  },
  {
    name: 'a regional replica of no shard',
    object: regionalReplica({ shard: undefined }),
    message: 'spec.shard: Required value',
  },
  {
    name: 'a negative number of instances',
    object: regionalReplica({ instances: -1 }),
    message: 'should be greater than or equal to 0',
  },
  {
    name: 'an absurd number of instances',
    object: regionalReplica({ instances: 10 }),
    message: 'should be less than or equal to 9',
  },
  { name: 'a bad shard name', object: regionalReplica({ shard: 'Shop A' }), message: labelForm },
  {
    name: 'a replica of another shard',
    before: regionalReplica(),
    object: regionalReplica({ shard: 'shop-b' }),
    message: "spec.shard can't be changed",
  },
  {
    name: 'a replica in another region',
    before: regionalReplica(),
    object: regionalReplica({ region: 'us' }),
    message: "spec.region can't be changed",
  },
  {
    name: 'a replica whose volume shrinks',
    before: regionalReplica({ storage: { size: '2Gi' } }),
    object: regionalReplica({ storage: { size: '1Gi' } }),
    message: 'a volume can grow, never shrink',
  },
  {
    name: 'a replica whose volume is taken away',
    before: regionalReplica({ storage: { size: '2Gi' } }),
    object: regionalReplica(),
    message: "spec.storage can't be taken away",
  },
];

const tenants: readonly WrongObject[] = [
  {
    name: 'a tenant of no keyspace',
    object: tenant({ keyspace: undefined }),
    message: 'spec.keyspace: Required value',
  },
  { name: 'a tenant with an empty key', object: tenant({ key: '' }), message: 'should be at least 1 chars long' },
  {
    name: 'a tenant whose key is too long',
    object: tenant({ key: 'k'.repeat(129) }),
    message: 'may not be more than 128 bytes',
  },
  {
    name: 'a tenant key with a line break',
    object: tenant({ key: 'a\nb' }),
    message: 'a tenant key has no control characters',
  },
  {
    name: 'a tenant key that begins with a blank',
    object: tenant({ key: ' acme' }),
    message: 'no blank at its beginning',
  },
  { name: 'a tenant with a number as key', object: tenant({ key: 42 }), message: 'must be of type string' },
  {
    name: 'a tenant that may live nowhere',
    object: tenant({ allowedRegions: [] }),
    message: 'should have at least 1 item',
  },
  {
    name: 'a region twice in a residency',
    object: tenant({ allowedRegions: ['eu', 'eu'] }),
    message: 'Duplicate value',
  },
  { name: 'a bad wanted shard', object: tenant({ shard: 'A' }), message: labelForm },
  {
    name: 'no connections at all',
    object: tenant({ limits: { connections: 0 } }),
    message: 'should be greater than or equal to 1',
  },
  {
    name: 'a negative statement time-out',
    object: tenant({ limits: { statementTimeoutMs: -1 } }),
    message: 'should be greater than or equal to 1',
  },
  {
    name: 'another key for a tenant',
    before: tenant(),
    object: tenant({ key: 'other' }),
    message: "spec.key can't be changed",
  },
  {
    name: 'another keyspace for a tenant',
    before: tenant(),
    object: tenant({ keyspace: 'other' }),
    message: "spec.keyspace can't be changed",
  },
];

export const wrongObjects: readonly WrongObject[] = [
  ...regions,
  ...keyspaces,
  ...shards,
  ...regionalReplicas,
  ...tenants,
];
