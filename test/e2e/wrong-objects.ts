/**
 * Objects that are wrong in themselves, each with a part of the message by which the API server refuses it.
 * The unit tests hold them against the Zod schemas, the end-to-end test against a real API server.
 */
import { keyspaces } from './wrong/keyspaces.ts';
import type { WrongObject } from './wrong/manifest.ts';
import { regionalReplicas, regions, tenants } from './wrong/others.ts';
import { shards } from './wrong/shards.ts';

export * from './wrong/manifest.ts';
export const wrongObjects: readonly WrongObject[] = [
  ...regions,
  ...keyspaces,
  ...shards,
  ...regionalReplicas,
  ...tenants,
];
