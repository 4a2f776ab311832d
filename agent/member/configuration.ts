/**
 * Turns orders into the files that Postgres is started and reloaded with. What Postgres wouldn't take is left out and
 * reported; the digest says whether what is in force is what the orders ask for.
 */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentConfiguration } from '#agent/configuration.ts';
import { writeDurably } from '#agent/durable-file.ts';
import { renderHostAccess, renderParameters, renderUserMaps } from '#agent/postgres/configuration-files.ts';
import { atLeast, mergeParameters, synchronousStandbyNames, upstreamParameters } from '#agent/postgres/parameters.ts';
import { postgresTlsFiles } from '#agent/tls/credentials.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { replicationRole } from '#core/roles.ts';

export interface RenderedConfiguration {
  readonly parametersFile: string;
  readonly userMaps: string;
  /** Over everything but the access file, which goes its own way. */
  readonly digest: string;
  readonly problems: readonly string[];
}

export interface ConfigurationPlaces {
  readonly parameters: string;
  readonly access: string;
  readonly userMaps: string;
}

export const configurationPlaces = (folder: string): ConfigurationPlaces => ({
  parameters: join(folder, 'postgresql.conf'),
  access: join(folder, 'pg_hba.conf'),
  userMaps: join(folder, 'pg_ident.conf'),
});

/** Pure. `accepted` are the Shard's parameters that Postgres takes, `limits` what a standby may not fall below. */
export function renderConfiguration(
  orders: Orders,
  accepted: Readonly<Record<string, string>>,
  limits: Readonly<Record<string, number>>,
  agent: Pick<AgentConfiguration, 'paths' | 'ports' | 'runTls' | 'runConfiguration'>,
): RenderedConfiguration {
  const { parameters, problems } = mergeParameters(accepted);
  const places = configurationPlaces(agent.runConfiguration);
  const tls = postgresTlsFiles(agent.runTls);
  const { acknowledgements, members } = orders.synchronous;
  const parametersFile = renderParameters({
    ...(orders.role === 'Follower' ? atLeast(parameters, limits) : parameters),
    port: String(agent.ports.postgres),
    unix_socket_directories: agent.paths.postgresSockets,
    data_directory: agent.paths.pgdata,
    hba_file: places.access,
    ident_file: places.userMaps,
    ssl_ca_file: tls.ca,
    ssl_cert_file: tls.certificate,
    ssl_key_file: tls.key,
    cluster_name: orders.member.name,
    // On followers too: whoever is promoted has the list before it can take a write (docs/design-traps.md, A9 and A27).
    synchronous_standby_names: synchronousStandbyNames(acknowledgements, members),
    ...(orders.role === 'Follower'
      ? upstreamParameters(
          orders.member,
          agent.paths.upstreamSockets,
          agent.ports.postgres,
          orders.shard.database,
          replicationRole,
        )
      : {}),
  });
  const userMaps = renderUserMaps();
  const digest = createHash('sha256').update(parametersFile).update(userMaps).digest('hex').slice(0, 16);
  return { parametersFile, userMaps, digest, problems };
}

export async function writeConfiguration(
  folder: string,
  rendered: RenderedConfiguration,
  access: 'closed' | 'open',
): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const places = configurationPlaces(folder);
  await writeDurably(places.parameters, rendered.parametersFile);
  await writeDurably(places.userMaps, rendered.userMaps);
  await writeAccess(folder, access);
}

/** The access file alone. */
export const writeAccess = (folder: string, access: 'closed' | 'open'): Promise<void> =>
  writeDurably(configurationPlaces(folder).access, renderHostAccess(access));
