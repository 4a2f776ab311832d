/**
 * The operator's process: reads its settings, wires the controllers to the runtime, and ends in order on SIGTERM.
 */
import { pino } from 'pino';
import { loadConfiguration } from '#kube/load-configuration.ts';
import { createKeyspaceController } from '#operator/controllers/keyspace/index.ts';
import { createRegionController } from '#operator/controllers/region/index.ts';
import { createRegionalReplicaController } from '#operator/controllers/regionalreplica/index.ts';
import { createShardController } from '#operator/controllers/shard/index.ts';
import { createTenantController } from '#operator/controllers/tenant/index.ts';
import { runOperator } from '#operator/runtime/program.ts';
import { readSettings } from '#operator/runtime/settings.ts';

const settings = readSettings(process.env);
const log = pino({
  level: settings.logLevel,
  base: { pod: settings.podName },
  timestamp: pino.stdTimeFunctions.isoTime,
  formatters: { level: (level) => ({ level }) },
});

const end = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    if (end.signal.aborted) process.exit(1);
    log.info({ signal: name }, 'ending');
    end.abort();
  });
}
process.on('uncaughtException', (error) => {
  // Nobody knows what state is left: a new process is certain, and the Lease of this pod is its successor's at once.
  log.fatal({ err: error }, 'uncaught exception');
  process.exit(1);
});

await runOperator(
  {
    configuration: await loadConfiguration(),
    settings,
    log,
    registerControllers: (runtime, deps) => {
      runtime.register(createRegionController(deps));
      runtime.register(createKeyspaceController(deps));
      runtime.register(createShardController(deps));
      runtime.register(createRegionalReplicaController(deps));
      runtime.register(createTenantController(deps));
    },
  },
  end.signal,
);
