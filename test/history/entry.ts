/**
 * A history: what clients asked, and what came back, as Jepsen writes it (one JSON object a line; `invoke`, then `ok`,
 * `fail` or `info`). `fail` says that it surely had no effect, `info` that nobody knows; whoever gets an `info` goes on
 * as another process, since its last operation may still take effect at any later time.
 * Words only: who records is in recorder.ts, who judges in judges/.
 */

export type Outcome = 'ok' | 'fail' | 'info';

/** What the keyspace calls how fresh a read must be. Writes are strong. */
export type Level = 'strong' | 'causal' | 'bounded' | 'eventual';

export interface Entry {
  readonly index: number;
  readonly type: 'invoke' | Outcome;
  readonly process: number;
  /** Nanoseconds of one host's monotonic clock since the recording began; never decreases with `index`. */
  readonly time: number;
  readonly f: string;
  readonly value: unknown;
  /** Left out: strong. */
  readonly level?: Level;
  /** Which router the session goes through. */
  readonly door?: string;
  /** The SQLSTATE, or what the connection said. */
  readonly error?: string;
  /** Who acknowledged a write: the Postgres timeline that it is on. */
  readonly timeline?: number;
}

/** An invocation with its completion. */
export interface Operation<Value = unknown> {
  readonly process: number;
  readonly f: string;
  readonly outcome: Outcome;
  readonly invoked: Value;
  /** Undefined unless `ok`. */
  readonly returned: Value | undefined;
  readonly invokedAt: number;
  /** Infinity where the outcome isn't known. */
  readonly endedAt: number;
  readonly level: Level;
  readonly door: string | undefined;
  readonly error: string | undefined;
  readonly timeline: number | undefined;
}

/** Pairs what belongs together; an invocation that was never answered is one of unknown outcome. */
export function operationsOf<Value>(entries: readonly Entry[]): Operation<Value>[] {
  const open = new Map<number, Entry>();
  const operations: Operation<Value>[] = [];
  const pair = (invocation: Entry, completion: Entry | undefined): void => {
    const outcome = completion?.type === 'ok' || completion?.type === 'fail' ? completion.type : 'info';
    operations.push({
      process: invocation.process,
      f: invocation.f,
      outcome,
      invoked: invocation.value as Value,
      returned: outcome === 'ok' ? (completion?.value as Value) : undefined,
      invokedAt: invocation.time,
      endedAt: outcome === 'info' ? Number.POSITIVE_INFINITY : (completion?.time ?? Number.POSITIVE_INFINITY),
      level: invocation.level ?? 'strong',
      door: invocation.door,
      error: completion?.error,
      timeline: completion?.timeline,
    });
  };
  for (const entry of entries) {
    const invocation = open.get(entry.process);
    if (entry.type === 'invoke') {
      if (invocation !== undefined) throw new Error(`process ${entry.process} asks again before it was answered`);
      open.set(entry.process, entry);
    } else {
      if (invocation === undefined) throw new Error(`process ${entry.process} is answered without having asked`);
      open.delete(entry.process);
      pair(invocation, entry);
    }
  }
  for (const invocation of open.values()) pair(invocation, undefined);
  return operations;
}

export function writeEntries(entries: readonly Entry[]): string {
  return entries.map((entry) => `${JSON.stringify(entry)}\n`).join('');
}

export function parseEntries(text: string): Entry[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Entry);
}
