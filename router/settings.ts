/** The router's own settings, from its environment. Everything about the keyspace comes from the map instead. */
import { z } from 'zod';
import { ports } from '#core/names.ts';
import type { HoldLimits } from './authority/hold.ts';

/** Separated by commas or white space. */
const list = z
  .string()
  .default('')
  .transform((text) => text.split(/[\s,]+/).filter((one) => one !== ''));

const environmentSchema = z.object({
  POD_NAMESPACE: z.string().default('default'),
  POD_NAME: z.string().default('router'),
  POD_IP: z.string().default(''),
  MERIDIAN_KEYSPACE: z.string().min(1),
  MERIDIAN_REGION: z.string().min(1),
  MERIDIAN_TLS_DIR: z.string().default('/etc/meridian/tls'),
  MERIDIAN_TOKEN_DIR: z.string().default('/etc/meridian/tokens'),
  MERIDIAN_MAP_FILE: z.string().optional(),
  MERIDIAN_PEERS: list,
  MERIDIAN_PROXY_FROM: list,
  MERIDIAN_ALLOW_PLAINTEXT: z.string().default(''),
  MERIDIAN_ADDRESS: z.string().default('0.0.0.0'),
  MERIDIAN_PORT: z.coerce.number().int().min(0).max(65535).default(ports.postgres),
  MERIDIAN_HTTP_PORT: z.coerce.number().int().min(0).max(65535).default(ports.routerHttp),
  MERIDIAN_DRAIN_SECONDS: z.coerce.number().min(0).default(25),
  MERIDIAN_HOLD_TRANSACTIONS: z.coerce.number().int().min(0).default(1_000),
  MERIDIAN_HOLD_BYTES: z.coerce
    .number()
    .int()
    .min(0)
    .default(16 * 1024 * 1024),
  MERIDIAN_HOLD_SECONDS: z.coerce.number().min(0).max(300).default(15),
  MERIDIAN_MESSAGE_BYTES: z.coerce
    .number()
    .int()
    .min(1024 * 1024)
    .optional(),
  MERIDIAN_WORKERS: z.coerce.number().int().min(1).max(16).default(1),
  MERIDIAN_PARAMETERS: z.enum(['on', 'off']).default('on'),
  MERIDIAN_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
});

export interface RouterSettings {
  readonly namespace: string;
  readonly podName: string;
  /** Where other routers reach this one; empty where nobody does. */
  readonly podAddress: string;
  /** Names, with a port or without, of the routers of the same Service, this one among them: cancel requests are passed on to them. */
  readonly peers: readonly string[];
  /** Addresses and ranges of the load balancers that begin each connection with a PROXY protocol header. */
  readonly proxyFrom: readonly string[];
  readonly keyspace: string;
  readonly region: string;
  readonly tlsFolder: string;
  /** Keys of tokens, one file each. */
  readonly tokenFolder?: string | undefined;
  /** A map from this file instead of the API server. */
  readonly mapFile: string | undefined;
  readonly allowPlaintext: boolean;
  readonly address: string;
  readonly port: number;
  readonly httpPort: number;
  readonly drainMs: number;
  readonly logLevel: string;
  /** Event loops that take clients, each in a thread of its own where there are several; one by default. */
  readonly workers?: number;
  /** Quick simple queries are said as prepared statements; they are by default. */
  readonly parameters?: boolean;
  /** Of clients' messages that a worker may hold; from the process' memory where it isn't said. */
  readonly messageBytes?: number | undefined;
  readonly times: RouterTimes;
  /** Of transactions that wait while their primary is away. */
  readonly hold: HoldLimits;
}

export interface RouterTimes {
  /** From the first byte of a client to its log-in. */
  readonly authenticationMs: number;
  /** A statement waits so long for a backend. */
  readonly waitMs: number;
  readonly connectMs: number;
  readonly backendIdleMs: number;
  readonly backendLifetimeMs: number;
  readonly catalogueRefreshMs: number;
  readonly unknownUserMs: number;
}

export const defaultTimes: RouterTimes = {
  authenticationMs: 10_000,
  waitMs: 10_000,
  connectMs: 3_000,
  backendIdleMs: 300_000,
  backendLifetimeMs: 3_600_000,
  catalogueRefreshMs: 10_000,
  unknownUserMs: 2_000,
};

/** @throws ZodError naming the variable that is wrong. */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): RouterSettings {
  const read = environmentSchema.parse(environment);
  return {
    namespace: read.POD_NAMESPACE,
    podName: read.POD_NAME,
    podAddress: read.POD_IP,
    peers: read.MERIDIAN_PEERS,
    proxyFrom: read.MERIDIAN_PROXY_FROM,
    keyspace: read.MERIDIAN_KEYSPACE,
    region: read.MERIDIAN_REGION,
    tlsFolder: read.MERIDIAN_TLS_DIR,
    tokenFolder: read.MERIDIAN_TOKEN_DIR,
    mapFile: read.MERIDIAN_MAP_FILE,
    allowPlaintext: read.MERIDIAN_ALLOW_PLAINTEXT === '1',
    address: read.MERIDIAN_ADDRESS,
    port: read.MERIDIAN_PORT,
    httpPort: read.MERIDIAN_HTTP_PORT,
    drainMs: read.MERIDIAN_DRAIN_SECONDS * 1_000,
    logLevel: read.MERIDIAN_LOG_LEVEL,
    workers: read.MERIDIAN_WORKERS,
    parameters: read.MERIDIAN_PARAMETERS === 'on',
    messageBytes: read.MERIDIAN_MESSAGE_BYTES,
    times: defaultTimes,
    hold: {
      transactions: read.MERIDIAN_HOLD_TRANSACTIONS,
      bytes: read.MERIDIAN_HOLD_BYTES,
      ms: read.MERIDIAN_HOLD_SECONDS * 1_000,
    },
  };
}
