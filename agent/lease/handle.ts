/**
 * The agent's end of the dead man's handle: lines on a pipe to process 1, which stops Postgres when a deadline passes that
 * wasn't renewed (init/handle.go has the other end, and the rules). Written by the lease thread alone.
 * Invariant: `deadlineMs` is what process 1 was told last, or will read next.
 */
import { writeSync } from 'node:fs';

/** Names the descriptor's number; set by the init. */
const VARIABLE = 'MERIDIAN_HANDLE';

/** Undefined outside a container that the init started. */
export function handleDescriptor(env: NodeJS.ProcessEnv = process.env): number | undefined {
  const text = env[VARIABLE];
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

export class HandleError extends Error {
  override readonly name = 'HandleError';
}

export class DeadMansHandle {
  readonly #descriptor: number | undefined;
  #isArmed = false;
  #deadlineMs = 0;
  #postmasterPid = 0;

  constructor(descriptor: number | undefined) {
    this.#descriptor = descriptor;
  }

  get isArmed(): boolean {
    return this.#isArmed;
  }

  /** 0 while armed without a deadline. */
  get deadlineMs(): number {
    return this.#deadlineMs;
  }

  get postmasterPid(): number {
    return this.#postmasterPid;
  }

  /** @throws HandleError when the line couldn't be handed over: then the last one holds. */
  arm(deadlineMs: number, postmasterPid: number): void {
    if (this.#isArmed && deadlineMs === this.#deadlineMs && postmasterPid === this.#postmasterPid) return;
    this.#write(`arm ${deadlineMs} ${postmasterPid}\n`);
    this.#isArmed = true;
    this.#deadlineMs = deadlineMs;
    this.#postmasterPid = postmasterPid;
  }

  disarm(): void {
    this.#write('disarm\n');
    this.#isArmed = false;
    this.#deadlineMs = 0;
    this.#postmasterPid = 0;
  }

  /** The pipe doesn't block; a line is shorter than PIPE_BUF, so it goes in whole or not at all (pipe(7)). */
  #write(line: string): void {
    if (this.#descriptor === undefined) return;
    try {
      writeSync(this.#descriptor, line);
    } catch (error) {
      throw new HandleError(`the dead man's handle: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
