/**
 * Reads WAL with `pg_waldump`, which goes by Postgres' own checks: checksum, link to the record before, page addresses. It
 * can be asked on a directory whose Postgres is down, and on one whose WAL nobody writes.
 * Invariant: a scan begins at the start of a segment, so that a record counts only if the one before leads to it: a left-over of
 * a recycled file can be a whole record with a right checksum.
 * Source: PostgreSQL documentation, "pg_waldump".
 */
import { ProgramError, runProgram } from '#agent/postgres/programs.ts';
import { formatLsn, type Lsn, parseLsn } from '#core/lsn.ts';
import { segmentName } from './wal-folder.ts';

export interface WalToRead {
  readonly folder: string;
  readonly segmentBytes: bigint;
  readonly env: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface SegmentRange {
  readonly timeline: number;
  readonly first: bigint;
  readonly last: bigint;
}

export interface Scanned {
  /** Begin of the first record. */
  readonly first: Lsn;
  /** End of the last complete valid one. */
  readonly end: Lsn;
}

/** Undefined where not a single record is found. */
export async function scanRecords(wal: WalToRead, range: SegmentRange): Promise<Scanned | undefined> {
  const stdout = await dump(wal, ['--stats'], range);
  const match = /^WAL statistics between ([0-9A-F]+\/[0-9A-F]+) and ([0-9A-F]+\/[0-9A-F]+):/m.exec(stdout);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  const scanned = { first: parseLsn(match[1]), end: parseLsn(match[2]) };
  return scanned.end > scanned.first ? scanned : undefined;
}

/** Where the record that begins at the start of this segment says that the one before it begins. */
export async function previousOfFirst(wal: WalToRead, timeline: number, segment: bigint): Promise<Lsn | undefined> {
  const stdout = await dump(wal, ['--limit=1'], { timeline, first: segment, last: segment });
  const previous = /, prev ([0-9A-F]+\/[0-9A-F]+), desc:/.exec(stdout)?.[1];
  return previous === undefined ? undefined : parseLsn(previous);
}

/** Where the record that begins exactly at `lsn` ends. */
export async function endOfRecord(wal: WalToRead, timeline: number, lsn: Lsn): Promise<Lsn | undefined> {
  const segment = lsn / wal.segmentBytes;
  const range = { timeline, first: segment, last: segment };
  const stdout = await dump(wal, ['--stats', '--limit=1', `--start=${formatLsn(lsn)}`], range);
  const match = /^WAL statistics between ([0-9A-F]+\/[0-9A-F]+) and ([0-9A-F]+\/[0-9A-F]+):/m.exec(stdout);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return parseLsn(match[1]) === lsn ? parseLsn(match[2]) : undefined;
}

/** The prefix of the message by which the agent's own commits (heartbeats) are known: nobody lost anything with those. */
export const agentMark = 'meridian';

/** Transactions that have an id and a commit record in [from, to), without the agent's own. */
export async function countCommits(wal: WalToRead, range: SegmentRange, from: Lsn, to: Lsn): Promise<number> {
  const counter = new CommitCounter(from, to);
  let rest = '';
  await dump(wal, ['--rmgr=Transaction', '--rmgr=LogicalMessage'], range, (text) => {
    const lines = `${rest}${text}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) counter.look(line);
  });
  return counter.commits;
}

const recordForm = /tx:\s*(\d+), lsn: ([0-9A-F]+\/[0-9A-F]+), prev \S+, desc: (\S+) (.*)/;

/** Goes through pg_waldump's lines in their order. */
export class CommitCounter {
  readonly #from: Lsn;
  readonly #to: Lsn;
  /** Transactions under way that have the agent's mark. */
  readonly #marked = new Set<string>();
  commits = 0;

  constructor(from: Lsn, to: Lsn) {
    this.#from = from;
    this.#to = to;
  }

  look(line: string): void {
    const [, transaction = '0', lsn = '0/0', kind, rest = ''] = recordForm.exec(line) ?? [];
    if (kind === 'MESSAGE') {
      if (rest.startsWith(`transactional, prefix "${agentMark}";`)) this.#marked.add(transaction);
      return;
    }
    if (kind !== 'COMMIT' && kind !== 'COMMIT_PREPARED') return;
    const isMarked = this.#marked.delete(transaction);
    const at = parseLsn(lsn);
    if (isMarked || at < this.#from || at >= this.#to) return;
    // The commit of a prepared transaction names it in its description; others without an id changed nothing.
    if (transaction !== '0' || kind === 'COMMIT_PREPARED') this.commits += 1;
  }
}

/**
 * What it printed, also where it stopped at an invalid record: that is how the end of WAL looks.
 * @throws ProgramError when it couldn't read at all, or was ended.
 */
async function dump(
  { folder, segmentBytes, env, signal }: WalToRead,
  options: readonly string[],
  { timeline, first, last }: SegmentRange,
  onStdout: (text: string) => void = () => {},
): Promise<string> {
  const names = [first, last].map((segment) => segmentName(timeline, segment, segmentBytes));
  try {
    const programOptions = { env, onStdout, ...(signal === undefined ? {} : { signal }) };
    return (await runProgram('pg_waldump', [...options, `--path=${folder}`, ...names], programOptions)).stdout;
  } catch (error) {
    if (error instanceof ProgramError && error.exitCode === 1 && endOfWal.test(error.stderr)) return error.stdout;
    throw error;
  }
}

const endOfWal = /error in WAL record at|could not find a valid record after/;
