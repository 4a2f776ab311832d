/**
 * A map from a JSON file, read again when it changes: for tests and for trying the router without a cluster.
 */

import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { ports } from '#core/names.ts';
import { type ClusterMap, consistencyLevels } from './map.ts';
import type { MapSource } from './source.ts';

const levelSchema = z.enum(consistencyLevels);
const limitsSchema = z.object({
  connections: z.int().optional(),
  transactionsInFlight: z.int().optional(),
  statementsPerSecond: z.int().optional(),
  statementTimeoutMs: z.int().optional(),
});

const fileSchema = z.object({
  keyspace: z.object({
    name: z.string(),
    database: z.string(),
    tenantColumn: z.string().default('tenant_id'),
    tenantType: z.enum(['text', 'uuid', 'bigint', 'integer']).default('text'),
    consistency: z
      .object({
        default: levelSchema,
        maxStalenessMs: z.int().optional(),
        rules: z
          .array(
            z.object({
              table: z.string().optional(),
              workflow: z.string().optional(),
              role: z.string().optional(),
              level: levelSchema,
              maxStalenessMs: z.int().optional(),
            }),
          )
          .default([]),
      })
      .default({ default: 'strong', rules: [] }),
    poolSize: z.int().min(1).default(10),
    roles: z.array(z.string()).default([]),
    certificateRoles: z.array(z.string()).default([]),
    roleLimits: z.record(z.string(), limitsSchema).optional(),
    admins: z.record(z.string(), z.enum(['stats', 'full'])).optional(),
    idleSessionMs: z.int().optional(),
    idleInTransactionMs: z.int().optional(),
    maxClients: z.int().min(1).default(1000),
  }),
  shards: z.array(
    z.object({
      name: z.string(),
      uid: z.string().optional(),
      epoch: z.int(),
      primary: z.string().optional(),
      target: z.string().optional(),
      history: z
        .array(
          z.object({
            epoch: z.int(),
            timeline: z.int(),
            member: z.string(),
            forkLsn: z.string(),
            parent: z.int().optional(),
          }),
        )
        .optional(),
    }),
  ),
  members: z.array(
    z.object({
      name: z.string(),
      shard: z.string(),
      region: z.string(),
      address: z.string(),
      port: z.int().default(ports.postgres),
      agentAddress: z.string().optional(),
      agentPort: z.int().default(ports.agentApi),
      plaintext: z.boolean().optional(),
      ready: z.boolean().default(true),
    }),
  ),
  tenants: z.array(
    z.object({
      key: z.string(),
      shard: z.string(),
      epoch: z.int().default(1),
      state: z.string().default('active'),
      limits: limitsSchema.optional(),
    }),
  ),
  proximity: z.record(z.string(), z.array(z.string())).default({}),
});

export type MapFile = z.input<typeof fileSchema>;

/** @throws ZodError naming the field that is wrong. */
export function readMapFile(text: string): ClusterMap {
  const file = fileSchema.parse(JSON.parse(text));
  return {
    keyspace: file.keyspace,
    shards: new Map(file.shards.map((shard) => [shard.name, shard])),
    members: new Map(file.members.map((member) => [member.name, member])),
    tenants: new Map(file.tenants.map((tenant) => [tenant.key, tenant])),
    proximity: new Map(Object.entries(file.proximity)),
  };
}

export class FileMapSource implements MapSource {
  readonly #path: string;
  readonly #pollMs: number;
  #load: (() => Promise<void>) | undefined;

  constructor(path: string, pollMs = 500) {
    this.#path = path;
    this.#pollMs = pollMs;
  }

  async start(onMap: (map: ClusterMap) => void, signal: AbortSignal): Promise<void> {
    const load = async (): Promise<void> => onMap(readMapFile(await readFile(this.#path, 'utf8')));
    this.#load = load;
    await load();
    const changed = (): void => {
      // A file that is half written or wrong for a moment leaves the last map in force.
      load().catch(() => undefined);
    };
    watchFile(this.#path, { interval: this.#pollMs, persistent: false }, changed);
    signal.addEventListener('abort', () => unwatchFile(this.#path, changed), { once: true });
  }

  /** @throws where the file is wrong: the last map stays in force. */
  async reload(): Promise<void> {
    await this.#load?.();
  }
}
