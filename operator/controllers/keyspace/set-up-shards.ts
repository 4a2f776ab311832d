/**
 * Brings every reachable shard of a keyspace to what the keyspace wants: database, `meridian` schema, migrations (in steps over all
 * shards, see `migration-steps.ts`), protection, roles.
 * What is done on one shard is in `shard-session.ts`; who may be next is decided in pure functions.
 *
 * Invariants: safe to run again at any time and after dying anywhere; a shard that fails stops nobody but the migrations that wait for
 * it; at most `width` shards are worked on at once.
 */
import { createHash } from 'node:crypto';
import type { AcceptedVerifiers } from '#operator/passwords/role-password.ts';
import type { SchemaWish, SetUpOutcome, SetUpShards, ShardOutcome, ShardTarget } from './actions.ts';
import type { ShardLedger } from './ledger.ts';
import { nextMigrationStep } from './migration-steps.ts';

/** A connection to one shard for the length of one round. Its methods throw `ShardProblemError` or what `pg` throws. */
export interface ShardSession {
  /** Database and `meridian` schema. Gives back how many migrations are applied. */
  install(): Promise<number>;
  /** Applies the first `upTo` migrations as far as they are missing, and checks that those applied are those declared. */
  migrate(upTo: number): Promise<{ readonly applied: number; readonly failure: ShardOutcome['failedMigration'] }>;
  protect(): Promise<void>;
  applyRoles(): Promise<void>;
  end(): Promise<void>;
}

/** Something is wrong on a shard that another try alone won't change. */
export class ShardProblemError extends Error {
  override readonly name = 'ShardProblemError';
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface SetUpDeps {
  readonly ledger: ShardLedger;
  readonly openSession: (shard: ShardTarget) => Promise<ShardSession>;
  readonly accepted: ReadonlyMap<string, AcceptedVerifiers>;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
}

const width = 8;

/** One shard on its way through the round. */
interface Course {
  readonly target: ShardTarget;
  readonly digest: string;
  readonly session: ShardSession | undefined;
  applied: number;
  problem: ShardOutcome['problem'];
  failedMigration: ShardOutcome['failedMigration'];
}

export async function setUpShards(action: SetUpShards, deps: SetUpDeps): Promise<SetUpOutcome> {
  const courses = await eachOf(action.shards, (target) => begin(target, action.wish, deps));
  try {
    const waitingFor = await migrate(action, courses, deps.signal);
    await eachOf(
      courses.filter(({ session, problem }) => session !== undefined && problem === undefined),
      (course) => finish(course, action.wish, deps),
    );
    return { shards: courses.map(outcomeOf), waitingFor };
  } finally {
    await eachOf(courses, async ({ session }) => session?.end());
  }
}

const primaryOf = (target: ShardTarget) => ({
  uid: target.uid,
  epoch: target.epoch,
  member: target.member.member,
  incarnation: target.incarnation,
});

/** Connects and installs, unless this process has seen all of it done. */
async function begin(target: ShardTarget, wish: SchemaWish, deps: SetUpDeps): Promise<Course> {
  const digest = digestOfWish(target, wish, deps.accepted);
  const course: Course = {
    target,
    digest,
    session: undefined,
    applied: target.recorded,
    problem: undefined,
    failedMigration: undefined,
  };
  const known = deps.ledger.find(primaryOf(target), deps.nowMs());
  if (known?.digest === digest) return { ...course, applied: known.applied };
  let session: ShardSession | undefined;
  try {
    session = await deps.openSession(target);
  } catch (error) {
    return { ...course, problem: problemOf('connect', error) };
  }
  try {
    const applied = await session.install();
    // Where the end of the list can't be read, a shard that is further on can't be compared with it.
    const isComparable = applied > 0 && (wish.hasAllMigrations || applied <= wish.migrations.length);
    const { failure } = isComparable
      ? await session.migrate(Math.min(applied, wish.migrations.length))
      : { failure: undefined };
    return { ...course, session, applied, failedMigration: failure };
  } catch (error) {
    return { ...course, session, problem: problemOf('install', error) };
  }
}

/** Runs step after step until nothing more may run; gives back the shards that new migrations wait for. */
async function migrate(
  action: SetUpShards,
  courses: readonly Course[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  // What is applied somewhere isn't what is declared: whoever ran it now elsewhere would have another schema.
  if (courses.some(({ failedMigration }) => failedMigration !== undefined)) return [];
  const declared = action.wish.migrations.length;
  for (;;) {
    signal.throwIfAborted();
    const step = nextMigrationStep(
      [
        ...courses.map((course) => ({
          name: course.target.name,
          ordinal: course.target.ordinal,
          applied: course.applied,
          reachable: course.problem === undefined,
          failed: course.failedMigration !== undefined,
        })),
        ...action.away.map(({ name, ordinal, migrations }) => ({
          name,
          ordinal,
          applied: migrations,
          reachable: false,
          failed: false,
        })),
      ],
      declared,
    );
    if (step.kind !== 'run') return step.kind === 'waiting' ? step.shards : [];
    await eachOf(
      courses.filter(({ target }) => step.shards.includes(target.name)),
      (course) => migrateOne(course, step.upTo),
    );
  }
}

async function migrateOne(course: Course, upTo: number): Promise<void> {
  // Known from before, and only as far as it has come: then nothing is to run on it.
  if (course.session === undefined) {
    course.problem = { step: 'connect', reason: 'NotConnected', message: 'it is looked at again in the next round' };
    return;
  }
  try {
    const { applied, failure } = await course.session.migrate(upTo);
    course.applied = applied;
    if (failure !== undefined) course.failedMigration = failure;
    else if (applied < upTo)
      course.problem = {
        step: 'install',
        reason: 'MigrationsIncomplete',
        message: `only ${applied} of ${upTo} migrations are applied`,
      };
  } catch (error) {
    course.problem = problemOf('connect', error);
  }
}

async function finish(course: Course, wish: SchemaWish, deps: SetUpDeps): Promise<void> {
  const { session, target, digest } = course;
  if (session === undefined) return;
  try {
    await session.applyRoles();
  } catch (error) {
    course.problem = problemOf('roles', error);
    return;
  }
  const nowMs = deps.nowMs();
  const before = deps.ledger.find(primaryOf(target), nowMs);
  const roles = new Map(
    wish.roles.flatMap(({ name }) => {
      const accepted = deps.accepted.get(name);
      if (accepted === undefined) return [];
      const acceptedDigest = digestOfAccepted(accepted);
      const known = before?.roles.get(name);
      return [[name, known?.digest === acceptedDigest ? known : { digest: acceptedDigest, sinceMs: nowMs }] as const];
    }),
  );
  let protectedAll = true;
  try {
    await session.protect();
  } catch (error) {
    course.problem = problemOf('protect', error);
    protectedAll = false;
  }
  deps.ledger.record(primaryOf(target), {
    epoch: target.epoch,
    member: target.member.member,
    incarnation: target.incarnation,
    // What isn't finished must look different from what is wished, so that the next round does it again.
    digest:
      protectedAll && course.failedMigration === undefined && course.applied >= wish.migrations.length ? digest : '',
    applied: course.applied,
    roles,
    atMs: nowMs,
  });
}

function problemOf(step: NonNullable<ShardOutcome['problem']>['step'], error: unknown): ShardOutcome['problem'] {
  const reasons = {
    connect: 'ConnectionFailed',
    install: 'InstallFailed',
    protect: 'ProtectFailed',
    roles: 'RolesFailed',
  };
  const message = error instanceof Error ? error.message : String(error);
  return {
    step,
    reason: error instanceof ShardProblemError ? error.reason : reasons[step],
    message: message.slice(0, 1_000),
  };
}

const outcomeOf = ({ target, applied, problem, failedMigration }: Course): ShardOutcome => ({
  name: target.name,
  applied,
  ...(problem === undefined ? {} : { problem }),
  ...(failedMigration === undefined ? {} : { failedMigration }),
});

/** Equal exactly when the shard would be given the same. Only digests of verifiers stay in memory here. */
function digestOfWish(target: ShardTarget, wish: SchemaWish, accepted: ReadonlyMap<string, AcceptedVerifiers>): string {
  const verifiers = wish.roles.map(({ name }) => accepted.get(name) ?? null);
  return sha256(JSON.stringify([target.ordinal, wish, verifiers]));
}

export const digestOfAccepted = (accepted: AcceptedVerifiers): string => sha256(JSON.stringify(accepted));

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Runs `use` for each item, `width` at a time; keeps the order of results. */
async function eachOf<T, R>(items: readonly T[], use: (item: T) => Promise<R>): Promise<R[]> {
  const results: [number, R][] = [];
  // One iterator for all workers: each takes what the others haven't.
  const rest = items.entries();
  const worker = async (): Promise<void> => {
    for (const [at, item] of rest) results.push([at, await use(item)]);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  return results.toSorted(([a], [b]) => a - b).map(([, result]) => result);
}
