/**
 * What the agent is told by its environment: who it is and where things lie. Everything that changes while it runs comes
 * with the orders. Tests start agents with other places and ports; in a pod only the names are set.
 */
import { readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { memberPaths, ports } from '#core/names.ts';

export interface AgentConfiguration {
  readonly podName: string;
  readonly namespace: string;
  readonly keyspace: string;
  readonly shard: string;
  readonly region: string;
  readonly paths: typeof memberPaths extends infer P ? { readonly [K in keyof P]: string } : never;
  /** Copies of the certificate that Postgres reads, owned by us; rendered configuration. Lost with the pod. */
  readonly runTls: string;
  readonly runConfiguration: string;
  readonly ports: {
    readonly postgres: number;
    readonly api: number;
    readonly tunnel: number;
    readonly lease: number;
    readonly http: number;
  };
  /** Reads the Shard's authority from this JSON file in place of the API server (tests without a cluster). */
  readonly authorityFile: string | undefined;
  readonly logLevel: string;
  /** How long a stop of Postgres may take before it is made an immediate one, ms. */
  readonly stopTimeoutMs: number;
}

const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';
const DEFAULT_STOP_TIMEOUT_MS = 15_000;

export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

export function configurationFromEnvironment(env: NodeJS.ProcessEnv): AgentConfiguration {
  const pgdata = env['PGDATA'] ?? memberPaths.pgdata;
  return {
    podName: required(env, 'POD_NAME'),
    namespace: env['POD_NAMESPACE'] ?? namespaceOfPod(),
    keyspace: required(env, 'MERIDIAN_KEYSPACE'),
    shard: required(env, 'MERIDIAN_SHARD'),
    region: required(env, 'MERIDIAN_REGION'),
    paths: { ...memberPaths, pgdata },
    runTls: join(memberPaths.run, 'tls'),
    runConfiguration: join(memberPaths.run, 'configuration'),
    ports: {
      postgres: ports.postgres,
      api: ports.agentApi,
      tunnel: ports.tunnel,
      lease: ports.lease,
      http: ports.memberHttp,
    },
    authorityFile: env['MERIDIAN_AUTHORITY_FILE'],
    logLevel: env['MERIDIAN_LOG_LEVEL'] ?? 'info',
    stopTimeoutMs: milliseconds(env, 'MERIDIAN_STOP_TIMEOUT_MS', DEFAULT_STOP_TIMEOUT_MS),
  };
}

/** Postgres' own programs get only what they need: no names of services, no tokens. */
export function environmentOfPostgres(env: NodeJS.ProcessEnv): Record<string, string> {
  return {
    PATH: env['PATH'] ?? ['/usr/local/bin', '/usr/bin', '/bin'].join(delimiter),
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    ...(env['HOME'] === undefined ? {} : { HOME: env['HOME'] }),
  };
}

function required(env: NodeJS.ProcessEnv, name: string): string {
  const value = env[name];
  if (value === undefined || value === '') throw new ConfigurationError(`the environment has no ${name}`);
  return value;
}

function namespaceOfPod(): string {
  try {
    return readFileSync(NAMESPACE_FILE, 'utf8').trim();
  } catch {
    throw new ConfigurationError('the environment has no POD_NAMESPACE, and there is no service account');
  }
}

function milliseconds(env: NodeJS.ProcessEnv, name: string, byDefault: number): number {
  const text = env[name];
  if (text === undefined) return byDefault;
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0) throw new ConfigurationError(`${name} is no positive number: ${text}`);
  return value;
}
