/**
 * The data directory as files: what state it is in, and the few files that the agent itself writes there. A directory is
 * data only under its final name; one being made has a name of its own and is thrown away when found at a start, so
 * there is never more than one that counts, and never a half-made one.
 */
import { access, chmod, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurably, syncFolder, writeDurably } from '#agent/durable-file.ts';
import { type ControlFile, readControlFile, timelineOfControl } from './control-file.ts';
import { runProgram } from './programs.ts';

const workKinds = ['initialising', 'cloning', 'discarded'] as const;

/** `standby`: has standby.signal and so starts in recovery. */
export type DataState = 'absent' | 'primary' | 'standby';

export class DataDirectory {
  readonly path: string;
  /** For Postgres' own programs. */
  readonly env: Readonly<Record<string, string>>;

  constructor(path: string, env: Readonly<Record<string, string>>) {
    this.path = path;
    this.env = env;
  }

  /** Where a new one is made, or an old one lies until it is gone; what it was is seen in the log. */
  workPath(kind: (typeof workKinds)[number]): string {
    return `${this.path}.${kind}`;
  }

  async state(): Promise<DataState> {
    if (!(await exists(join(this.path, 'PG_VERSION')))) return 'absent';
    return (await exists(join(this.path, 'standby.signal'))) ? 'standby' : 'primary';
  }

  /** Says which half-made directories it removed. */
  async removeHalfMade(): Promise<string[]> {
    const removed: string[] = [];
    for (const kind of workKinds) {
      const path = this.workPath(kind);
      if (!(await exists(path))) continue;
      await rm(path, { recursive: true, force: true });
      removed.push(path);
    }
    return removed;
  }

  /** The made directory becomes the data directory; there must be none yet. */
  async adopt(kind: 'initialising' | 'cloning'): Promise<void> {
    await syncFolder(this.workPath(kind));
    // An empty PGDATA (or a mount's leftover without PG_VERSION) may be there: rename replaces an empty folder.
    await renameDurably(this.workPath(kind), this.path);
  }

  /** No data from here on; the disk is free when this resolves. */
  async discard(): Promise<void> {
    const path = this.workPath('discarded');
    await rm(path, { recursive: true, force: true });
    await renameDurably(this.path, path);
    await rm(path, { recursive: true, force: true });
  }

  async makeStandby(path = this.path): Promise<void> {
    await writeDurably(join(path, 'standby.signal'), '');
  }

  /**
   * Before each start: no setting of ALTER SYSTEM (it would win over ours; `allow_alter_system` stops new ones only), and
   * no lock file of a postmaster that is gone. A container's process numbers start anew, so the number in the file may
   * well be one of ours now and Postgres would refuse to start; the caller has made sure that no postmaster runs.
   */
  async prepareForStart(): Promise<void> {
    // A kubelet that applies the pod's fsGroup opens what is on the volume to the group; Postgres then refuses it.
    await chmod(this.path, 0o700);
    await truncate(join(this.path, 'postgresql.auto.conf')).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await rm(join(this.path, 'postmaster.pid'), { force: true });
    // Read by initdb's own paths and by some tools; Postgres itself is given ours by name.
    for (const unused of ['postgresql.conf', 'pg_hba.conf', 'pg_ident.conf']) {
      await writeFile(join(this.path, unused), '# Not used: the agent renders these outside the data directory.\n');
    }
  }

  async systemIdentifier(path = this.path): Promise<string> {
    return (await this.control(path)).systemIdentifier;
  }

  /** The timeline that the data is on for certain: what a start without a signal file goes on with. */
  async timeline(): Promise<number> {
    return timelineOfControl(await this.control());
  }

  /** Of the primary, as this standby's data knows them. */
  async primaryLimits(): Promise<Readonly<Record<string, number>>> {
    return (await this.control()).limits;
  }

  async control(path = this.path): Promise<ControlFile> {
    const { stdout } = await runProgram('pg_controldata', ['-D', path], { env: { ...this.env, LC_ALL: 'C' } });
    return readControlFile(stdout);
  }
}

/** Process numbers of everything in this container whose program is Postgres. */
export async function postgresProcesses(procFolder = '/proc'): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir(procFolder)) {
    if (!/^\d+$/.test(entry)) continue;
    const name = await readFile(join(procFolder, entry, 'comm'), 'utf8').catch(() => '');
    if (name.trim() === 'postgres') found.push(Number(entry));
  }
  return found;
}

/** Absent is only what is known to be: taken for no data, an error of the disk would cost the member its identity. */
async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw error;
  }
}
