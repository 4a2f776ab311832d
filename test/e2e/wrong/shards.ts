/** Shards that are wrong in themselves. */
import { shard, type WrongObject } from './manifest.ts';

export const shards: readonly WrongObject[] = [
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
