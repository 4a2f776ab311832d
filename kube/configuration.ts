/**
 * Where the API server is and how we prove who we are: in a pod (service account) or by a kubeconfig (`kubeconfig.ts`).
 * Credentials are asked for before every request, since tokens and CAs are rotated under running programs.
 * Source: Kubernetes documentation, "Accessing the Kubernetes API from a Pod"; bound tokens live an hour and are rewritten in place.
 */
import { readFile } from 'node:fs/promises';

export interface Credentials {
  /** PEM; the system's authorities when absent. */
  readonly ca?: string;
  readonly clientCertificate?: { readonly cert: string; readonly key: string };
  readonly token?: string;
  /** False only where a kubeconfig says `insecure-skip-tls-verify`. */
  readonly verifyServer: boolean;
  /** Name to expect in the server's certificate instead of the host in the URL. */
  readonly serverName?: string;
}

export interface Configuration {
  /** May have a path, as behind a proxy; no slash at the end. */
  readonly server: string;
  /** The namespace that we run in, or that the kubeconfig's context names. */
  readonly namespace: string;
  /** Cheap to call often. `refresh` forgets what is remembered: asked for after a 401. */
  credentials(refresh?: boolean): Promise<Credentials>;
}

const serviceAccountFolder = '/var/run/secrets/kubernetes.io/serviceaccount';
const rereadAfterMs = 30_000;

export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

export interface InClusterOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly folder?: string;
  readonly now?: () => number;
}

export const runsInCluster = (env: Readonly<Record<string, string | undefined>> = process.env): boolean =>
  env['KUBERNETES_SERVICE_HOST'] !== undefined && env['KUBERNETES_SERVICE_PORT'] !== undefined;

/** @throws ConfigurationError outside of a pod. */
export async function inClusterConfiguration(options: InClusterOptions = {}): Promise<Configuration> {
  const env = options.env ?? process.env;
  const folder = options.folder ?? serviceAccountFolder;
  const now = options.now ?? (() => performance.now());
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'];
  if (host === undefined || port === undefined)
    throw new ConfigurationError('not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set');

  const namespace = env['POD_NAMESPACE'] ?? (await readFile(`${folder}/namespace`, 'utf8')).trim();
  const read = async (): Promise<Credentials> => {
    const [ca, token] = await Promise.all([readFile(`${folder}/ca.crt`, 'utf8'), readFile(`${folder}/token`, 'utf8')]);
    return { ca, token: token.trim(), verifyServer: true };
  };
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    namespace,
    credentials: remembered(read, rereadAfterMs, now),
  };
}

/** Calls `read` again after `forMs`; goes on with what it has while reading fails, so that a file being swapped is no outage. */
export function remembered(
  read: () => Promise<Credentials>,
  forMs: number,
  now: () => number,
): (refresh?: boolean) => Promise<Credentials> {
  let last: { readonly credentials: Credentials; readonly readAtMs: number } | undefined;
  return async (refresh = false) => {
    if (last !== undefined && !refresh && now() - last.readAtMs < forMs) return last.credentials;
    try {
      last = { credentials: await read(), readAtMs: now() };
    } catch (error) {
      if (last === undefined) throw error;
    }
    return last.credentials;
  };
}
