/** Regions, RegionalReplicas and Tenants that are wrong in themselves. */
import { region, regionalReplica, tenant, type WrongObject } from './manifest.ts';

const nameForm = "metadata.name must be lower-case letters, digits and '-'";
const labelForm = "must be lower-case letters, digits and '-'";

export const regions: readonly WrongObject[] = [
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

export const regionalReplicas: readonly WrongObject[] = [
  {
    name: 'a regional replica whose name is too long',
    object: regionalReplica({}, 'r'.repeat(41)),
    message: 'may not be more than 40 bytes',
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

export const tenants: readonly WrongObject[] = [
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
