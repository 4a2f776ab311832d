/**
 * The WAL receivers of this container, by /proc: what a standby asks its tunnel with. With the tunnel closed they end when
 * they have written what they had read; only then does the log on disk stand still. Seen from outside of Postgres, since a
 * Postgres whose replay is held up says little, and can't be told to end one (docs/design-traps.md, A23).
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 10;
const GONE_MS = 1_000;

/** Whether the log that is here may still grow by what was received. Any number may wait for its end at once. */
export class Receivers {
  readonly #procFolder: string;
  #mayReceive = false;
  /** Of all who wait. */
  #wait: Promise<boolean> | undefined;

  constructor(procFolder = '/proc') {
    this.#procFolder = procFolder;
  }

  /** The upstream is aimed somewhere: whoever waits after this waits for those who begin now, too. */
  begin(): void {
    this.#mayReceive = true;
    this.#wait = undefined;
  }

  /** With the upstream aimed nowhere: waits until nothing is written any more that was received before. */
  async gone(): Promise<boolean> {
    if (!this.#mayReceive) return true;
    const wait = this.#wait ?? awaitReceiversGone(GONE_MS, this.#procFolder);
    this.#wait = wait;
    let areGone = false;
    try {
      areGone = await wait;
    } finally {
      // Unless something was begun meanwhile.
      if (this.#wait === wait) {
        this.#wait = undefined;
        this.#mayReceive = !areGone;
      }
    }
    return areGone;
  }
}

/**
 * Waits for those that have received anything; one that starts meanwhile, or waits for its tunnel, finds none. False when
 * some are left: then only a stop of Postgres ends them.
 */
export async function awaitReceiversGone(withinMs: number, procFolder = '/proc'): Promise<boolean> {
  const former = await walReceivers(procFolder);
  const giveUpAt = performance.now() + withinMs;
  for (;;) {
    const present = new Set(await walReceivers(procFolder));
    if (!former.some((pid) => present.has(pid))) return true;
    if (performance.now() > giveUpAt) return false;
    await sleep(POLL_MS);
  }
}

async function walReceivers(procFolder: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir(procFolder)) {
    if (!/^\d+$/.test(entry)) continue;
    const title = await readFile(join(procFolder, entry, 'cmdline'), 'utf8').catch(() => '');
    // One that only waits for a tunnel has received nothing; its title says no more than what it is.
    if (/^postgres: (?:[^ ]+: )?walreceiver streaming\b/.test(title)) found.push(Number(entry));
  }
  return found;
}
