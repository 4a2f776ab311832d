/**
 * One request to the API server with the pod's service account, bounded in time and in the length of its answer. The token is
 * read for every request, since the kubelet renews it. What is asked, and what an answer means, is the callers' business.
 * Source: Kubernetes documentation, "Accessing the Kubernetes API from a Pod".
 */
import { readFile } from 'node:fs/promises';
import { type Agent, request } from 'node:https';
import { join } from 'node:path';

export interface ApiServerPlace {
  readonly host: string;
  readonly port: string;
  /** Folder with `token` and `ca.crt`. */
  readonly serviceAccount: string;
}

export interface ApiRequest {
  readonly method: string;
  readonly path: string;
  readonly body?: object | undefined;
  /** false: a connection of its own, closed afterwards. */
  readonly agent: Agent | false;
  readonly timeoutMs: number;
  readonly maxAnswerBytes: number;
}

export function apiServerFromEnvironment(env: NodeJS.ProcessEnv): ApiServerPlace | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'];
  if (host === undefined || port === undefined) return undefined;
  return { host, port, serviceAccount: '/var/run/secrets/kubernetes.io/serviceaccount' };
}

/** Resolves to any answer, whatever its status. @throws where there is none in time, or it is too long. */
export async function askApiServer(
  { host, port, serviceAccount }: ApiServerPlace,
  { method, path, body, agent, timeoutMs, maxAnswerBytes }: ApiRequest,
): Promise<{ status: number; body: string }> {
  const [token, ca] = await Promise.all([
    readFile(join(serviceAccount, 'token'), 'utf8'),
    readFile(join(serviceAccount, 'ca.crt'), 'utf8'),
  ]);
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${token.trim()}`,
      accept: 'application/json',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    const signal = AbortSignal.timeout(timeoutMs);
    const sent = request({ host, port, method, path, ca, headers, agent, signal });
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > maxAnswerBytes) sent.destroy(new Error('an answer of the API server that is too long'));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
