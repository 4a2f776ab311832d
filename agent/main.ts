/** The agent's program: wiring only. What it does is in `member/`, how it is told and asked in `api/` and `tunnel/`. */
import { chmod, mkdir } from 'node:fs/promises';
import { authorityLeaseName } from '#core/names.ts';
import { createMetrics } from './api/metrics.ts';
import { ProbesServer } from './api/probes.ts';
import { ApiServer } from './api/server.ts';
import { apiServerFromEnvironment } from './api-server.ts';
import { FileAuthority } from './authority/file.ts';
import { KubernetesAuthority } from './authority/kubernetes.ts';
import type { AuthoritySource } from './authority/source.ts';
import { type AgentConfiguration, ConfigurationError, configurationFromEnvironment } from './configuration.ts';
import { handleDescriptor } from './lease/handle.ts';
import { LeaseKeeper } from './lease/keeper.ts';
import { createLogger, type Logger } from './log.ts';
import { Member } from './member/member.ts';
import { readOrders } from './orders/store.ts';
import { DataDirectory } from './postgres/data-directory.ts';
import { postgresSocketPath } from './postgres/session.ts';
import { PromiseFile } from './promise/file.ts';
import { CredentialsWatch } from './tls/credentials.ts';
import { TunnelServer } from './tunnel/server.ts';
import { Upstream } from './tunnel/upstream.ts';
import { assertVolumeIsLocked } from './volume-lock.ts';

const configuration = configurationFromEnvironment(process.env);
const log = createLogger(configuration.logLevel, configuration.podName);

// What nobody expected leaves the agent in a state that nobody knows: it ends, and with it, through the init, Postgres.
process.on('uncaughtException', (error) => end(error, 'uncaught error'));
process.on('unhandledRejection', (error) => end(error, 'unhandled rejection'));

await run(configuration, log);

async function run(config: AgentConfiguration, logger: Logger): Promise<void> {
  const { paths, podName, namespace, keyspace } = config;
  const place = { namespace, keyspace };
  assertVolumeIsLocked(paths.volume);
  for (const folder of [paths.volume, paths.run, paths.postgresSockets, paths.upstreamSockets]) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  }
  await chmod(paths.postgresSockets, 0o700);

  const promise = await openPromise(config, logger);
  const member = { name: podName, incarnation: promise.current.incarnation };
  const orders = await readOrders(paths.orders, member);
  logger.info({ incarnation: member.incarnation, epoch: promise.current.epoch, role: orders?.role }, 'agent starts');

  const credentials = await CredentialsWatch.open(paths.tls, podName, (problem) => {
    logger.warn({ problem }, 'certificate not taken');
  });
  const upstream = new Upstream({
    place,
    credentials: () => credentials.current,
    socketPath: postgresSocketPath(paths.upstreamSockets, config.ports.postgres),
    promisedEpoch: () => promise.current.epoch,
    log: logger,
  });
  const apiServer = apiServerFromEnvironment(process.env);
  const lease = await LeaseKeeper.start({
    port: config.ports.lease,
    place,
    credentials: credentials.current,
    identity: member,
    handle: handleDescriptor(),
    ...(apiServer === undefined
      ? {}
      : { kubernetes: { ...apiServer, namespace, name: authorityLeaseName(config.shard) } }),
    longestLeaseMs: promise.current.longestLeaseMs,
    persistLongestLease: (longestLeaseMs) => promise.update((current) => ({ ...current, longestLeaseMs })),
    log: logger,
  });
  const theMember = new Member({
    configuration: config,
    promise,
    orders,
    authority: authoritySource(config),
    credentials,
    upstream,
    lease,
    log: logger,
  });
  const tunnels = new TunnelServer({
    place,
    credentials: credentials.current,
    postgresSocket: postgresSocketPath(paths.postgresSockets, config.ports.postgres),
    context: () => theMember.tunnelContext(),
    log: logger,
  });
  theMember.use(tunnels);
  const api = new ApiServer({
    place,
    credentials: credentials.current,
    status: () => theMember.status(),
    takeOrders: (wanted) => theMember.takeOrders(wanted),
    authority: (question) => theMember.authority(question),
    fence: (question) => theMember.fence(question),
    log: logger,
  });
  const metrics = createMetrics({
    labels: { namespace, keyspace, shard: config.shard, region: config.region, member: podName },
    status: () => theMember.status(),
    authority: () => theMember.authoritySeen(),
    isReady: () => theMember.isReady,
    restarts: () => theMember.restarts,
    tunnels: () => ({
      open: tunnels.openCount,
      sentBytes: tunnels.sentBytes,
      receivedBytes: upstream.receivedBytes,
    }),
  });
  const probes = new ProbesServer({
    isReady: () => theMember.isReady,
    phase: () => theMember.phase,
    metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
  });
  credentials.onChange(async (renewed) => {
    logger.info({ notAfter: renewed.notAfter }, 'certificate renewed');
    api.renew(renewed);
    tunnels.renew(renewed);
    lease.renewCredentials(renewed);
    await theMember.renewCertificate();
  });

  await upstream.listen();
  await tunnels.listen(config.ports.tunnel);
  await api.listen(config.ports.api);
  await probes.listen(config.ports.http);
  credentials.start();

  let isEnding = false;
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    if (isEnding) return;
    isEnding = true;
    logger.info({ signal }, 'agent stops');
    credentials.stop();
    await theMember.stop();
    await Promise.all([api.stop(), probes.stop()]);
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, (received) => {
      stop(received).catch((error: unknown) => end(error, 'stop failed'));
    });
  }
  // Its default would end the agent; what changes is noticed without it.
  process.on('SIGHUP', () => logger.info('SIGHUP ignored'));
  await theMember.run();
}

async function openPromise(config: AgentConfiguration, logger: Logger): Promise<PromiseFile> {
  const { promise, found } = await PromiseFile.open(config.paths.promise);
  if (found === 'unreadable') logger.error('both slots of the promise are unreadable: this is a new member now');
  const data = await new DataDirectory(config.paths.pgdata, {}).state();
  if (promise.current.systemIdentifier !== '' && data === 'absent') {
    // A member that lost its data has forgotten what it acknowledged: it may not count as who it was.
    const { incarnation } = await promise.renew();
    logger.error({ incarnation }, 'the data directory is gone: this is a new member now');
  }
  return promise;
}

function authoritySource({ authorityFile, namespace, shard }: AgentConfiguration): AuthoritySource {
  if (authorityFile !== undefined) return new FileAuthority(authorityFile);
  const server = apiServerFromEnvironment(process.env);
  if (server === undefined) throw new ConfigurationError('neither an API server nor MERIDIAN_AUTHORITY_FILE is given');
  return new KubernetesAuthority(server, namespace, shard);
}

function end(error: unknown, message: string): void {
  log.fatal({ err: error }, message);
  process.exit(1);
}
