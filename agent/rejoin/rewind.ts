/**
 * Takes a member whose log left its primary's history back to it: counts what is lost and puts it aside, brings the data to
 * a clean end, runs pg_rewind through the tunnel that the caller has aimed, and leaves a standby. Each stage is on disk
 * before it begins (`rejoin-file.ts`), so that whoever comes after a death knows what the data is.
 * Once pg_rewind has begun only its end makes the data whole. It is run again where that is sound: it writes the control
 * file last, so with the old one in place it can be begun anew, with the WAL that it reads put back. Else another copy is
 * needed, which is for the caller and the membership to bring about (docs/design-traps.md, A2, A24).
 * Invariants: pg_rewind never recovers the target by itself (half rewound, that would write on the primary's own timeline);
 * a directory with notes of a rejoin is never started.
 * Source: PostgreSQL documentation, "pg_rewind", "How It Works".
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '#agent/durable-file.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { ProgramError, runProgram } from '#agent/postgres/programs.ts';
import { formatLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { replicationRole, rewindDatabase } from '#core/roles.ts';
import { type DivergedStatus, divergedOf } from './assess.ts';
import { isCleanlyEnded, recoverToCleanEnd } from './clean-end.ts';
import { divergedFrom } from './divergence.ts';
import { keepWal, restoreKept } from './kept-wal.ts';
import { lineOnDisk, timelineOf } from './position.ts';
import { forgetRejoin, type Parting, type RejoinState, readRejoin, writeRejoin } from './rejoin-file.ts';
import { countTransactions } from './transactions.ts';
import { historyName, walFolder } from './wal-folder.ts';

export interface RewindOptions {
  readonly data: DataDirectory;
  readonly orders: Pick<Orders, 'history' | 'timeline' | 'epoch' | 'member'>;
  readonly paths: { readonly rejoin: string; readonly kept: string; readonly upstreamSockets: string };
  /** Of Postgres: names the upstream socket. */
  readonly port: number;
  readonly signal: AbortSignal;
  /** As soon as it is known. */
  readonly onDiverged: (diverged: DivergedStatus) => void;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
  /** For tests: another bound of what is kept. */
  readonly maxKeptBytes?: number;
}

export type RewindOutcome =
  | { readonly kind: 'Rewound'; readonly rejoined: NonNullable<AgentStatus['rejoined']> }
  | { readonly kind: 'NeedsCopy'; readonly reason: string };

const MAX_ATTEMPTS = 3;
/**
 * A source that goes in the midst of it is another matter than data that can't be rewound: while authority moves from
 * member to member that happens again and again, and who asks for a copy may be the one whom the next primary opens with.
 */
const MAX_LOSSES = 100;

/** Postgres is down, the upstream aimed for a rewind. @throws what is worth another try. */
export async function rewind(options: RewindOptions): Promise<RewindOutcome> {
  const { paths, data } = options;
  for (;;) {
    const state: RejoinState | undefined = await readRejoin(paths.rejoin);
    switch (state?.stage) {
      case undefined: {
        const parting = await part(options);
        if (parting === undefined)
          return { kind: 'NeedsCopy', reason: 'its data has not diverged, or has no position' };
        await reachSource(options);
        await writeRejoin(paths.rejoin, { stage: 'Recovering', parting, attempts: 0, problem: '' });
        break;
      }
      case 'Recovering':
        await writeRejoin(paths.rejoin, await recoverOnce(options, state));
        break;
      case 'Rewinding': {
        const next = await rewindOnce(options, state);
        await writeRejoin(paths.rejoin, next);
        break;
      }
      case 'Syncing':
        if (state.bootId !== (await bootId())) {
          await writeRejoin(
            paths.rejoin,
            needsCopy(state.parting, 'the machine was restarted before the rewind was on disk'),
          );
          break;
        }
        await runProgram('initdb', ['--sync-only', `--pgdata=${data.path}`], { env: data.env, signal: options.signal });
        await data.makeStandby();
        await forgetRejoin(paths.rejoin);
        return { kind: 'Rewound', rejoined: rejoinedOf(state.parting, options.orders.epoch) };
      case 'NeedsCopy':
        return { kind: 'NeedsCopy', reason: state.reason };
    }
  }
}

/**
 * Nothing is touched before the primary has let the tunnel in, which it does only while it runs as that at this very epoch:
 * one that was chosen and never comes up may not cost a whole copy. @throws while it doesn't.
 */
async function reachSource({ paths, port, data, signal }: RewindOptions): Promise<void> {
  const source = sourceOf(paths.upstreamSockets, port);
  await runProgram('psql', ['--no-psqlrc', '--command=select', source], { env: data.env, signal });
}

const sourceOf = (upstreamSockets: string, port: number): string =>
  `host=${upstreamSockets} port=${port} user=${replicationRole} dbname=${rewindDatabase} connect_timeout=10`;

/** Nothing has been touched yet: what there is past the fork, and how many transactions of it. */
async function part(options: RewindOptions): Promise<Parting | undefined> {
  const { data, orders, onDiverged, log } = options;
  const line = await lineOnDisk(data);
  const found = divergedFrom(line, orders);
  if (found === undefined) return undefined;
  const { divergence, stretches } = found;
  const parting: Parting = {
    timeline: divergence.timeline,
    forkLsn: formatLsn(divergence.forkLsn),
    endTimeline: timelineOf(line),
    lsn: formatLsn(line.end),
    transactions: await countTransactions(data, stretches, options.signal),
  };
  log.warn({ ...parting }, 'diverged from the primary');
  onDiverged(divergedOf(parting, false));
  return parting;
}

async function recoverOnce(
  options: RewindOptions,
  state: Extract<RejoinState, { stage: 'Recovering' }>,
): Promise<RejoinState> {
  const { paths, signal } = options;
  const { parting, attempts } = state;
  if (attempts >= MAX_ATTEMPTS) return needsCopy(parting, `it was not recovered: ${state.problem}`);
  try {
    return await endCleanly(options, parting);
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    if (!signal.aborted) await writeRejoin(paths.rejoin, { ...state, attempts: attempts + 1, problem });
    throw error;
  }
}

/** The WAL is put aside only now: a rewind that is begun anew reads the end that the recovery wrote, too. */
async function endCleanly(options: RewindOptions, parting: Parting): Promise<RejoinState> {
  const { data, orders, paths, signal, onDiverged, log } = options;
  const before = await lineOnDisk(data);
  if (!isCleanlyEnded(await data.control(), before.end)) await recoverToCleanEnd(data, signal);
  const control = await data.control();
  const found = divergedFrom(await lineOnDisk(data), orders);
  const keptIn =
    found === undefined
      ? undefined
      : await keepWal({
          walFolder: walFolder(data.path),
          keptFolder: paths.kept,
          segmentBytes: control.segmentBytes,
          stretches: found.stretches,
          note: {
            member: `${orders.member.name}/${orders.member.incarnation}`,
            at: new Date().toISOString(),
            timeline: parting.timeline,
            forkLsn: parting.forkLsn,
            lsn: parting.lsn,
            transactions: parting.transactions,
          },
          ...(options.maxKeptBytes === undefined ? {} : { maxBytes: options.maxKeptBytes }),
        }).catch((error: unknown) => {
          log.warn({ err: error }, 'the diverged WAL could not be kept');
          return undefined;
        });
  const kept: Parting = { ...parting, ...(keptIn === undefined ? {} : { keptIn }) };
  onDiverged(divergedOf(kept, false));
  return {
    stage: 'Rewinding',
    parting: kept,
    checkpoint: formatLsn(control.checkpoint),
    ownHistory: await readFile(historyOf(data, parting), 'utf8').catch(() => ''),
    attempts: 0,
    losses: 0,
    problem: '',
  };
}

async function rewindOnce(
  options: RewindOptions,
  state: Extract<RejoinState, { stage: 'Rewinding' }>,
): Promise<RejoinState> {
  const { data, paths, port, signal, log } = options;
  const { parting, attempts } = state;
  if (attempts >= MAX_ATTEMPTS) return needsCopy(parting, `pg_rewind failed ${attempts} times: ${state.problem}`);
  if (formatLsn((await data.control()).checkpoint) !== state.checkpoint) {
    return needsCopy(parting, 'pg_rewind was ended when it had all but finished');
  }
  // Counted before it begins: a death in it is an attempt.
  await writeRejoin(paths.rejoin, { ...state, attempts: attempts + 1 });
  if (attempts > 0) await putBack(data, state);
  const source = sourceOf(paths.upstreamSockets, port);
  try {
    const { stderr } = await runProgram(
      'pg_rewind',
      [`--target-pgdata=${data.path}`, `--source-server=${source}`, '--no-ensure-shutdown', '--no-sync'],
      { env: data.env, signal },
    );
    if (/no rewind required/.test(stderr)) return needsCopy(parting, 'pg_rewind sees no divergence, the record does');
    log.info({ output: stderr.trimEnd().split('\n').slice(-4) }, 'rewound');
    return { stage: 'Syncing', parting, bootId: await bootId() };
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error;
    const problem = describe(error);
    if (signal.aborted || isUntouched(error)) {
      await writeRejoin(paths.rejoin, { ...state, problem });
      throw error;
    }
    log.warn({ problem, attempt: attempts + 1 }, 'pg_rewind failed');
    if (isHopeless(error)) return needsCopy(parting, problem);
    const { losses } = state;
    if (isSourceLost(error) && losses < MAX_LOSSES) {
      // At least one, so that what it may have overwritten is put back the next time.
      await writeRejoin(paths.rejoin, { ...state, attempts: Math.max(attempts, 1), losses: losses + 1, problem });
      throw error;
    }
    await writeRejoin(paths.rejoin, { ...state, attempts: attempts + 1, problem });
    if (attempts + 1 >= MAX_ATTEMPTS) return needsCopy(parting, problem);
    throw error;
  }
}

/** What pg_rewind reads of its target, and the one before may have overwritten or removed. */
async function putBack(
  data: DataDirectory,
  { parting, ownHistory }: Extract<RejoinState, { stage: 'Rewinding' }>,
): Promise<void> {
  if (ownHistory !== '') await writeDurably(historyOf(data, parting), ownHistory);
  if (parting.keptIn !== undefined) await restoreKept(parting.keptIn, walFolder(data.path));
}

const historyOf = (data: DataDirectory, { endTimeline }: Parting): string =>
  join(walFolder(data.path), historyName(endTimeline));

/** It never came to look at its source. */
const isUntouched = ({ stderr }: ProgramError): boolean => /connection to server|could not connect/.test(stderr);

/** The source, or the way to it, went in the midst of it. Text of libpq's, and of a Postgres that ends its connections. */
export const isSourceLost = ({ stderr }: { readonly stderr: string }): boolean =>
  /server closed the connection|terminating connection|no connection to the server|could not (?:receive|send) data|Connection reset|Broken pipe/.test(
    stderr,
  );

/** What no repetition changes. */
const isHopeless = ({ stderr }: ProgramError): boolean =>
  /could not find common ancestor|could not find previous WAL record|must be shut down cleanly|different systems/.test(
    stderr,
  );

/** The first complaint says more than the last line. */
const describe = ({ stderr, message }: ProgramError): string =>
  /pg_rewind: (?:error|fatal): .*/.exec(stderr)?.[0] ?? message;

const needsCopy = (parting: Parting, reason: string): RejoinState => ({ stage: 'NeedsCopy', parting, reason });

function rejoinedOf(parting: Parting, epoch: number): NonNullable<AgentStatus['rejoined']> {
  const { forkLsn, lsn, transactions, keptIn } = parting;
  return { how: 'Rewind', epoch, forkLsn, lsn, transactions, ...(keptIn === undefined ? {} : { keptIn }) };
}

/** Changes when the machine starts anew, and with it what was written and not yet on disk is lost. */
const bootId = async (): Promise<string> => (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
