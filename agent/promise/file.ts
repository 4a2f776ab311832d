/**
 * The promise file on the volume: made once (whole, then renamed into place), then overwritten in place, slot by slot,
 * with fdatasync, so that a full disk can't keep a promise from being written (docs/design-traps.md, A25).
 * Invariant: what `update` has resolved for is on disk, and `current` never shows what isn't.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder } from '#agent/durable-file.ts';
import { encodeSlot, FILE_BYTES, firstPromise, newestSlot, type PromiseRecord, SLOT_BYTES } from './record.ts';

export interface OpenedPromise {
  readonly promise: PromiseFile;
  /** How the file was found; `unreadable` was put aside and a new identity made. */
  readonly found: 'existing' | 'absent' | 'unreadable';
}

export class PromiseFile {
  readonly #handle: FileHandle;
  #current: PromiseRecord;
  #writeNumber: bigint;
  #index: 0 | 1;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(handle: FileHandle, current: PromiseRecord, writeNumber: bigint, index: 0 | 1) {
    this.#handle = handle;
    this.#current = current;
    this.#writeNumber = writeNumber;
    this.#index = index;
  }

  static async open(path: string, newIncarnation = randomIncarnation): Promise<OpenedPromise> {
    const bytes = await readIfThere(path);
    const newest = bytes === undefined ? undefined : newestSlot(bytes);
    if (newest !== undefined) {
      const handle = await open(path, 'r+');
      return {
        promise: new PromiseFile(handle, newest.record, newest.writeNumber, newest.index),
        found: 'existing',
      };
    }
    // Both slots bad: not this agent's doing (one torn write spares the other). The identity is gone with it; the old
    // file stays for people to look at.
    if (bytes !== undefined) await rename(path, `${path}.unreadable`);
    const handle = await create(path, firstPromise(newIncarnation()));
    const record = newestSlot(await readFile(path));
    if (record === undefined) throw new Error(`${path} can't be read back after it was made`);
    return {
      promise: new PromiseFile(handle, record.record, record.writeNumber, record.index),
      found: bytes === undefined ? 'absent' : 'unreadable',
    };
  }

  get current(): PromiseRecord {
    return this.#current;
  }

  /** Applies `change` to the promise as it is when earlier updates are on disk. */
  update(change: (current: PromiseRecord) => PromiseRecord): Promise<PromiseRecord> {
    const result = this.#queue.then(async () => {
      const next = change(this.#current);
      if (next === this.#current) return next;
      const index = this.#index === 0 ? 1 : 0;
      const writeNumber = this.#writeNumber + 1n;
      const bytes = encodeSlot({ writeNumber, record: next });
      await this.#handle.write(bytes, 0, bytes.length, index * SLOT_BYTES);
      await this.#handle.datasync();
      this.#current = next;
      this.#writeNumber = writeNumber;
      this.#index = index;
      return next;
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /**
   * A new identity that keeps what was promised: for a volume whose data directory has gone (docs/design-traps.md, A2).
   */
  renew(newIncarnation = randomIncarnation): Promise<PromiseRecord> {
    return this.update((current) => ({ ...current, incarnation: newIncarnation(), systemIdentifier: '' }));
  }

  async close(): Promise<void> {
    await this.#queue;
    await this.#handle.close();
  }
}

export const randomIncarnation = (): string => randomBytes(8).toString('hex');

async function create(path: string, record: PromiseRecord): Promise<FileHandle> {
  const made = await open(`${path}.new`, 'w', 0o600);
  const bytes = Buffer.alloc(FILE_BYTES);
  encodeSlot({ writeNumber: 1n, record }).copy(bytes, 0);
  await made.write(bytes, 0, FILE_BYTES, 0);
  await made.sync();
  await made.close();
  await rename(`${path}.new`, path);
  await syncFolder(dirname(path));
  return open(path, 'r+');
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
