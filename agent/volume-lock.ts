/**
 * The lock on the volume, taken by the init before the agent starts (init/lock.go) and held for as long as anybody has the
 * locked file open. The agent checks that it is there, and hands the descriptor on to every program that works on the
 * volume: a Postgres that outlives its agent and its init keeps the next container out until it is gone, too.
 * Source: Linux manual, flock(2) (the lock belongs to the open file description, which children share).
 */
import { fstatSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Names the descriptor's number; set by the init. */
const VARIABLE = 'MERIDIAN_VOLUME_LOCK';
const LOCK_FILE = 'lock';

export class VolumeLockError extends Error {
  override readonly name = 'VolumeLockError';
}

/** @throws VolumeLockError when this process doesn't have this volume's lock file open: it must not touch the volume. */
export function assertVolumeIsLocked(volume: string, env: NodeJS.ProcessEnv = process.env): void {
  const [descriptor] = lockToHandOn(env);
  if (descriptor === undefined) throw new VolumeLockError(`the environment has no ${VARIABLE}: start it by the init`);
  const path = join(volume, LOCK_FILE);
  const opened = fstatSync(descriptor);
  const named = statSync(path);
  if (opened.dev !== named.dev || opened.ino !== named.ino) {
    throw new VolumeLockError(`descriptor ${descriptor} is not ${path}: another volume's lock is no lock here`);
  }
}

/** What a child's `stdio` ends with: the locked file, or nothing outside a container. Node itself passes none on. */
export function lockToHandOn(env: NodeJS.ProcessEnv = process.env): readonly number[] {
  const text = env[VARIABLE];
  return text === undefined ? [] : [Number(text)];
}
