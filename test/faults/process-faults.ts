/** Faults of single processes and pods of the primary. */
import { CommandError, lastLines } from '#cluster/process.ts';
import { memberPaths } from '#core/names.ts';
import { agentRole } from '#core/roles.ts';
import { historyRole } from '../history/workload.ts';
import { deletePod, type Fault, type Field, memberTarget, nothingToHeal, processes } from './fault.ts';

async function stopAndContinue(field: Field, process: string): Promise<() => Promise<void>> {
  const target = memberTarget(field, field.primary, process);
  await field.cluster.faults.signal(target, 'STOP');
  return async () => {
    // It may be gone: then somebody else has seen to it.
    await field.cluster.faults.signal(target, 'CONT').catch((error: unknown) => field.note(String(error)));
  };
}

export const processFaults: readonly Fault[] = [
  {
    name: 'postgres-killed',
    about: "SIGKILL to the primary's postmaster",
    expected: 'any',
    lastsMs: 12_000,
    silentAtMostMs: 8_000,
    inject: async (field) => {
      await field.cluster.faults.signal(memberTarget(field, field.primary, processes.postmaster), 'KILL');
      return nothingToHeal;
    },
  },
  {
    name: 'postgres-backend-killed',
    about: 'SIGKILL to one backend of the primary: the server ends as a whole (restart_after_crash = off)',
    expected: 'any',
    lastsMs: 12_000,
    silentAtMostMs: 8_000,
    inject: async (field) => {
      const backend = `^postgres: [^ ]+ ${historyRole} `;
      await field.cluster.faults.signal(memberTarget(field, field.primary, backend), 'KILL');
      return nothingToHeal;
    },
  },
  {
    name: 'postgres-stopped',
    about: "SIGSTOP to every process of the primary's Postgres, SIGCONT afterwards",
    expected: 'new epoch',
    lastsMs: 40_000,
    silentAtMostMs: 20_000,
    inject: (field) => stopAndContinue(field, processes.postgres),
  },
  {
    name: 'agent-killed',
    about: "SIGKILL to the primary's agent",
    expected: 'any',
    lastsMs: 12_000,
    silentAtMostMs: 12_000,
    inject: async (field) => {
      await field.cluster.faults.signal(memberTarget(field, field.primary, processes.agent), 'KILL');
      return nothingToHeal;
    },
  },
  {
    name: 'agent-stopped',
    about: "SIGSTOP to the primary's agent: the dead man's handle must end its Postgres; SIGCONT afterwards",
    expected: 'new epoch',
    lastsMs: 40_000,
    silentAtMostMs: 12_000,
    inject: (field) => stopAndContinue(field, processes.agent),
  },
  {
    name: 'pod-killed',
    about: "SIGKILL to process 1 of the primary's container",
    expected: 'any',
    lastsMs: 12_000,
    silentAtMostMs: 12_000,
    inject: async (field) => {
      await field.cluster.faults.signal(memberTarget(field, field.primary), 'KILL');
      return nothingToHeal;
    },
  },
  {
    name: 'pod-deleted',
    about: "the primary's pod is deleted with grace 0",
    expected: 'any',
    lastsMs: 15_000,
    silentAtMostMs: 15_000,
    inject: async (field) => {
      await deletePod(field, field.installation.namespace, field.primary.name);
      return nothingToHeal;
    },
  },
  {
    name: 'follower-deleted',
    about: "a follower's pod is deleted with grace 0",
    expected: 'same epoch',
    lastsMs: 10_000,
    silentAtMostMs: 4_000,
    forms: 2,
    inject: async (field) => {
      const follower = field.followers[field.round % field.followers.length];
      if (follower === undefined) throw new Error('no follower');
      await deletePod(field, field.installation.namespace, follower.name);
      return nothingToHeal;
    },
  },
  {
    name: 'disk-full',
    about:
      "the primary's volume is filled to the last block, and freed afterwards: new rows are refused, nothing else is harmed",
    expected: 'any',
    lastsMs: 15_000,
    needsBoundedVolumes: true,
    inject: fillVolume,
  },
  {
    name: 'disk-full-log',
    about: 'the same, and then the log asks for a new segment: Postgres ends, and cannot start',
    expected: 'new epoch',
    lastsMs: 60_000,
    silentAtMostMs: 40_000,
    needsBoundedVolumes: true,
    inject: async (field) => {
      const free = await fillVolume(field);
      const psql = ['psql', '-h', memberPaths.postgresSockets, '-U', agentRole, '-d', 'postgres', '-XAtc', USE_UP_LOG];
      const { installation, primary } = field;
      const ended = await installation.kubectl(['exec', primary.name, '-c', 'postgres', '--', ...psql]).then(
        () => 'the log had room for it all',
        (error: unknown) => (error instanceof CommandError ? lastLines(error.output, 3) : String(error)),
      );
      field.note(ended);
      return free;
    },
  },
];

/** More segments of the log than there can be recycled ones lying ready. */
const USE_UP_LOG = `do $$ begin
  for n in 1..64 loop
    perform pg_catalog.pg_logical_emit_message(false, 'fill', 'x');
    perform pg_catalog.pg_switch_wal();
  end loop;
end $$`;

async function fillVolume({ cluster, installation, primary }: Field): Promise<() => Promise<void>> {
  await cluster.faults.fillVolume(installation.namespace, primary.name);
  return () => cluster.faults.freeVolume(installation.namespace, primary.name);
}
