/**
 * The keys by which a keyspace's routers sign tokens (core/consistency/token.ts): a Secret with one file for each, named by its number.
 * Made with one key where it is absent, and never changed after that: a key more, with a higher number, signs from then on, and one
 * that is taken away makes its tokens void; both are people's to do.
 */
import { randomBytes } from 'node:crypto';
import type { KubeApi } from '#kube/client.ts';
import { ApiError } from '#kube/errors.ts';
import { secrets } from '#kube/kinds.ts';
import type { ObjectMeta } from '#kube/objects.ts';

const keyBytes = 32;

/** @throws ApiError */
export async function ensureTokenKeys(kube: KubeApi, metadata: ObjectMeta): Promise<void> {
  const client = kube.of(secrets);
  if ((await client.find(metadata)) !== undefined) return;
  try {
    await client.create({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata,
      type: 'Opaque',
      data: { '1': randomBytes(keyBytes).toString('base64') },
    });
  } catch (error) {
    // Somebody else was first: theirs are the keys.
    if (!(error instanceof ApiError && error.isAlreadyExists)) throw error;
  }
}
