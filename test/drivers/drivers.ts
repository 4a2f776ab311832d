/**
 * The drivers of the matrix, and how each one's checks are made ready: everything is kept in the cache folder under the key of its
 * sources. A toolchain that isn't installed here is said, and is a failure.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cachePath, withLock } from '#cluster/cache.ts';
import { keyOf, keyOfFolder } from '#cluster/content-key.ts';
import { isInstalled } from '#cluster/docker/daemon.ts';
import { run } from '#cluster/process.ts';
import { step } from '#cluster/progress.ts';
import { checkNames } from './report.ts';

export const jdbcVersion = '42.7.7';

export interface Driver {
  readonly name: string;
  /** Folder below `programs`. */
  readonly folder: string;
  readonly needs: readonly string[];
  readonly checks: readonly string[];
  /** What it can't do, whatever is at the other end. */
  readonly cannot: readonly string[];
  /** What runs in a copy of the folder to make it ready. */
  readonly prepare: readonly (readonly string[])[];
  /** The program, as seen from that copy; undefined where it runs in the Postgres image. */
  readonly program: readonly string[] | undefined;
}

const node = {
  folder: 'node',
  needs: ['npm'],
  checks: checkNames,
  prepare: [['npm', 'install', '--no-package-lock', '--no-audit', '--no-fund']],
};
const python = {
  folder: 'python',
  needs: ['python3'],
  checks: checkNames,
  cannot: [],
  prepare: [
    ['python3', '-m', 'venv', 'venv'],
    ['venv/bin/pip', 'install', '--quiet', '--requirement', 'requirements.txt'],
  ],
};
const jar = `postgresql-${jdbcVersion}.jar`;

export const drivers: readonly Driver[] = [
  { name: 'node-postgres', ...node, cannot: [], program: [process.execPath, 'node-postgres.mjs'] },
  { name: 'postgres.js', ...node, cannot: ['binary'], program: [process.execPath, 'postgres-js.mjs'] },
  {
    name: 'Kysely',
    ...node,
    cannot: ['binary', 'pipeline', 'notices', 'listen', 'copy out', 'copy in', 'cancel'],
    program: [process.execPath, 'kysely.mjs'],
  },
  { name: 'psycopg 3', ...python, program: ['venv/bin/python', 'psycopg3.py'] },
  { name: 'asyncpg', ...python, program: ['venv/bin/python', 'asyncpg_checks.py'] },
  {
    name: 'pgx',
    folder: 'go',
    needs: ['go'],
    checks: checkNames,
    cannot: [],
    prepare: [['go', 'build', '-o', 'checks', '.']],
    program: ['./checks'],
  },
  {
    name: 'pgjdbc',
    folder: 'java',
    needs: ['javac', 'java', 'mvn'],
    checks: checkNames,
    cannot: [],
    prepare: [
      [
        'mvn',
        '-q',
        '-B',
        'dependency:copy',
        `-Dartifact=org.postgresql:postgresql:${jdbcVersion}`,
        '-DoutputDirectory=.',
      ],
      ['javac', '-cp', jar, 'Checks.java'],
    ],
    program: ['java', '-Xmx1g', '-cp', `${jar}:.`, 'Checks'],
  },
  {
    name: 'tokio-postgres',
    folder: 'rust',
    needs: ['cargo'],
    checks: checkNames,
    cannot: [],
    prepare: [['cargo', 'build', '--quiet']],
    program: ['target/debug/driver-checks'],
  },
  {
    name: 'libpq',
    folder: 'libpq',
    needs: [],
    checks: [...checkNames, 'pg_dump'],
    cannot: [],
    prepare: [],
    program: undefined,
  },
];

const programs = join(import.meta.dirname, 'programs');

/** The folder with the driver's program, ready to run. @throws Error where a toolchain is missing, or the building fails. */
export async function prepared({ folder, needs, prepare }: Driver): Promise<string> {
  const source = join(programs, folder);
  if (prepare.length === 0) return source;
  for (const program of needs) if (!isInstalled(program)) throw new Error(`not installed here: ${program}`);
  const target = cachePath('drivers', `${folder}-${keyOf([await keyOfFolder(source), JSON.stringify(prepare)])}`);
  if (existsSync(target)) return target;
  return withLock(`drivers-${folder}`, async () => {
    if (existsSync(target)) return target;
    await mkdir(cachePath('drivers'), { recursive: true });
    const unfinished = await mkdtemp(cachePath('drivers', '.building-'));
    try {
      await cp(source, unfinished, { recursive: true });
      // The environment of Python knows its own place by name: it is made where it stays.
      const place = folder === 'python' ? target : unfinished;
      if (place === target) await rename(unfinished, target);
      for (const command of prepare)
        await step(`drivers: ${command.slice(0, 3).join(' ')}`, () =>
          run(command, { cwd: place, logFile: cachePath('logs', `drivers-${folder}.log`) }),
        ).catch(async (error: unknown) => {
          await rm(place, { recursive: true, force: true });
          throw error;
        });
      if (place !== target) await rename(unfinished, target);
      return target;
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
  });
}
