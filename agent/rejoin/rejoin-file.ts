/**
 * What a rejoin must still know after a death in the middle, in one small file beside the data directory, never in it: a
 * rewind and a base copy overwrite or delete whatever lies there (docs/design-traps.md, A24). It is on disk before anything
 * of the data is touched, and gone only when the data is whole again: for as long as it is there the data has no position.
 */
import { readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { syncFolder, writeDurably } from '#agent/durable-file.ts';

const partingSchema = z.object({
  /** Where the data's line and its primary's part, and where the data ended before it was touched. */
  timeline: z.int(),
  forkLsn: z.string(),
  endTimeline: z.int(),
  lsn: z.string(),
  transactions: z.int(),
  keptIn: z.string().optional(),
});
export type Parting = z.infer<typeof partingSchema>;

const rejoinSchema = z.discriminatedUnion('stage', [
  /** Postgres is brought to a clean end in single-user mode; it may have written behind the position. */
  z.object({ stage: z.literal('Recovering'), parting: partingSchema, attempts: z.int(), problem: z.string() }),
  /**
   * pg_rewind is at work, or was ended in it. Of the data as it was before: its last checkpoint, and the text of its
   * timeline's history (empty on the first timeline), which pg_rewind reads and may have overwritten.
   */
  z.object({
    stage: z.literal('Rewinding'),
    parting: partingSchema,
    checkpoint: z.string(),
    ownHistory: z.string(),
    attempts: z.int(),
    /** How often the source went in the midst of it, which says nothing against the data. */
    losses: z.int().default(0),
    problem: z.string(),
  }),
  /** It was done, on this boot of the machine; not all of it is on disk yet. */
  z.object({ stage: z.literal('Syncing'), parting: partingSchema, bootId: z.string() }),
  /** Only another copy helps. */
  z.object({ stage: z.literal('NeedsCopy'), parting: partingSchema.optional(), reason: z.string() }),
]);
export type RejoinState = z.infer<typeof rejoinSchema>;

/** Undefined when no rejoin was begun. What can't be read says that one was, and no more: the data isn't to be trusted. */
export async function readRejoin(path: string): Promise<RejoinState | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  return (
    rejoinSchema.safeParse(parseJson(text)).data ?? {
      stage: 'NeedsCopy',
      reason: 'its notes of a rejoin are unreadable',
    }
  );
}

export const writeRejoin = (path: string, state: RejoinState): Promise<void> =>
  writeDurably(path, `${JSON.stringify(state)}\n`);

/** When the data is whole again, or has gone altogether. */
export async function forgetRejoin(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncFolder(dirname(path));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
