/**
 * Reads the Shard from the API server with the pod's service account: one GET without a resourceVersion, which the API
 * server answers from etcd and not from a cache.
 * Source: Kubernetes documentation, API Concepts, "Resource versions" (get: unset means most recent).
 */
import { type ApiServerPlace, askApiServer } from '#agent/api-server.ts';
import { apiGroup, apiVersion } from '#core/names.ts';
import { type AuthoritySource, type ShardAuthority, shardAuthoritySchema } from './source.ts';

const TIMEOUT_MS = 2_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export class KubernetesAuthority implements AuthoritySource {
  readonly #server: ApiServerPlace;
  readonly #path: string;

  constructor(server: ApiServerPlace, namespace: string, shard: string) {
    this.#server = server;
    this.#path = `/apis/${apiGroup}/${apiVersion}/namespaces/${namespace}/shards/${shard}`;
  }

  async read(): Promise<ShardAuthority | undefined> {
    const answer = await askApiServer(this.#server, {
      method: 'GET',
      path: this.#path,
      // No connection is kept: the gate is asked rarely, and a kept one may be a dead one just then.
      agent: false,
      timeoutMs: TIMEOUT_MS,
      maxAnswerBytes: MAX_ANSWER_BYTES,
    });
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw new Error(`the API server answers ${answer.status}: ${answer.body.slice(0, 200)}`);
    return shardAuthoritySchema.parse(JSON.parse(answer.body));
  }
}
