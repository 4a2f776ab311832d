/**
 * Reads a kubeconfig: its current context's server and credentials (certificates, tokens, token files, exec plug-ins).
 * Leaves out what Kubernetes itself has dropped (auth-provider) and passwords, which no API server takes any more: both are refused
 * with a sentence. Relative paths count from the file's folder, as kubectl does it.
 * Source: Kubernetes documentation, "kubeconfig (v1)", "client-go credential plugins".
 */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { type Configuration, ConfigurationError, type Credentials, remembered } from './configuration.ts';
import { runExecPlugin } from './exec-plugin.ts';

interface Cluster {
  readonly server?: string;
  readonly 'certificate-authority'?: string;
  readonly 'certificate-authority-data'?: string;
  readonly 'insecure-skip-tls-verify'?: boolean;
  readonly 'tls-server-name'?: string;
}

interface User {
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly exec?: ExecSpec;
  readonly username?: string;
  readonly 'auth-provider'?: unknown;
}

export interface ExecSpec {
  readonly apiVersion: string;
  readonly command: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly { readonly name: string; readonly value: string }[] | null;
}

interface KubeconfigFile {
  readonly 'current-context'?: string;
  readonly clusters?: readonly { readonly name: string; readonly cluster: Cluster }[];
  readonly users?: readonly { readonly name: string; readonly user: User }[];
  readonly contexts?: readonly {
    readonly name: string;
    readonly context: { readonly cluster: string; readonly user: string; readonly namespace?: string };
  }[];
}

const rereadAfterMs = 60_000;

/** @throws ConfigurationError that names what is missing in the file. */
export async function kubeconfigConfiguration(path: string, contextName?: string): Promise<Configuration> {
  const file = parse(await readFile(path, 'utf8')) as KubeconfigFile | null;
  const wanted = contextName ?? file?.['current-context'];
  const context = file?.contexts?.find((entry) => entry.name === wanted)?.context;
  if (context === undefined) throw new ConfigurationError(`${path}: no context named ${JSON.stringify(wanted ?? '')}`);
  const cluster = file?.clusters?.find((entry) => entry.name === context.cluster)?.cluster;
  if (cluster?.server === undefined) throw new ConfigurationError(`${path}: no server for cluster ${context.cluster}`);
  const user = file?.users?.find((entry) => entry.name === context.user)?.user ?? {};
  if (user['auth-provider'] !== undefined)
    throw new ConfigurationError(`${path}: user ${context.user} has an auth-provider; use an exec plug-in instead`);
  if (user.username !== undefined)
    throw new ConfigurationError(
      `${path}: user ${context.user} has a password; use a certificate, token or exec plug-in`,
    );

  const folder = dirname(path);
  const read = (): Promise<Credentials> => readCredentials(folder, cluster, user);
  const configuration: Configuration = {
    server: cluster.server.replace(/\/+$/, ''),
    namespace: context.namespace ?? 'default',
    credentials: remembered(read, rereadAfterMs, () => performance.now()),
  };
  // A file that can't be read should say so now, not at the first request.
  await configuration.credentials();
  return configuration;
}

async function readCredentials(folder: string, cluster: Cluster, user: User): Promise<Credentials> {
  const pem = async (inline: string | undefined, path: string | undefined): Promise<string | undefined> => {
    if (inline !== undefined) return Buffer.from(inline, 'base64').toString('utf8');
    return path === undefined ? undefined : readFile(resolve(folder, path), 'utf8');
  };
  const [ca, cert, key] = await Promise.all([
    pem(cluster['certificate-authority-data'], cluster['certificate-authority']),
    pem(user['client-certificate-data'], user['client-certificate']),
    pem(user['client-key-data'], user['client-key']),
  ]);
  const exec = user.exec === undefined ? undefined : await runExecPlugin(user.exec, folder);
  const fromFile = user.tokenFile === undefined ? undefined : await readFile(resolve(folder, user.tokenFile), 'utf8');
  const token = exec?.token ?? fromFile?.trim() ?? user.token;
  const certificate = exec?.clientCertificate ?? (cert === undefined || key === undefined ? undefined : { cert, key });
  return {
    verifyServer: cluster['insecure-skip-tls-verify'] !== true,
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { clientCertificate: certificate }),
    ...(token === undefined ? {} : { token }),
    ...(cluster['tls-server-name'] === undefined ? {} : { serverName: cluster['tls-server-name'] }),
  };
}
