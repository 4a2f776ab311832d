/**
 * Reads the Shard from the API server with the pod's service account: one GET without a resourceVersion, which the API
 * server answers from etcd and not from a cache. The token is read for every request, since the kubelet renews it.
 * Source: Kubernetes documentation, "Accessing the Kubernetes API from a Pod"; API Concepts, "Resource versions" (get:
 * unset means most recent).
 */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { apiGroup, apiVersion } from '#core/names.ts';
import { type AuthoritySource, type ShardAuthority, shardAuthoritySchema } from './source.ts';

export interface ApiServer {
  readonly host: string;
  readonly port: string;
  /** Folder with `token` and `ca.crt`. */
  readonly serviceAccount: string;
}

const TIMEOUT_MS = 2_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export function apiServerFromEnvironment(env: NodeJS.ProcessEnv): ApiServer | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'];
  if (host === undefined || port === undefined) return undefined;
  return { host, port, serviceAccount: '/var/run/secrets/kubernetes.io/serviceaccount' };
}

export class KubernetesAuthority implements AuthoritySource {
  readonly #server: ApiServer;
  readonly #path: string;

  constructor(server: ApiServer, namespace: string, shard: string) {
    this.#server = server;
    this.#path = `/apis/${apiGroup}/${apiVersion}/namespaces/${namespace}/shards/${shard}`;
  }

  async read(): Promise<ShardAuthority | undefined> {
    const { host, port, serviceAccount } = this.#server;
    const [token, ca] = await Promise.all([
      readFile(join(serviceAccount, 'token'), 'utf8'),
      readFile(join(serviceAccount, 'ca.crt'), 'utf8'),
    ]);
    const answer = await get({ host, port, path: this.#path, ca, token: token.trim() });
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw new Error(`the API server answers ${answer.status}: ${answer.body.slice(0, 200)}`);
    return shardAuthoritySchema.parse(JSON.parse(answer.body));
  }
}

interface GetOptions {
  readonly host: string;
  readonly port: string;
  readonly path: string;
  readonly ca: string;
  readonly token: string;
}

function get({ host, port, path, ca, token }: GetOptions): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, accept: 'application/json' };
    // No connection is kept: the gate is asked rarely, and a kept one may be a dead one just then.
    const sent = request({ host, port, path, ca, headers, agent: false, signal: AbortSignal.timeout(TIMEOUT_MS) });
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) sent.destroy(new Error('an answer of the API server that is too long'));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    sent.end();
  });
}
