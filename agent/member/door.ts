/**
 * Whether anybody is let in, as the configuration files say it: who writes them, in what order, and whether somebody may be
 * inside because of it. That Postgres has read them, and who is in fact inside, is for others to show.
 * Invariants: one writes at a time; once Postgres is on its way down no file is written but the closed access file;
 * `mayHaveClients` is true from before the open one is written, whatever comes of that.
 */
import { type RenderedConfiguration, writeAccess, writeConfiguration } from './configuration.ts';

export class Door {
  readonly #folder: string;
  #mayHaveClients = false;
  #isGoingDown = false;
  #last: Promise<unknown> = Promise.resolve();

  /** @param folder Of the configuration files. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Since the start of this Postgres, or since it was shown that nobody is inside. */
  get mayHaveClients(): boolean {
    return this.#mayHaveClients;
  }

  get isGoingDown(): boolean {
    return this.#isGoingDown;
  }

  /** From this moment on, until `begin`, nobody opens it. */
  goDown(): void {
    this.#isGoingDown = true;
  }

  /** @throws on its way down. */
  assertStaysUp(): void {
    if (this.#isGoingDown) throw new Error('Postgres is on its way down');
  }

  /** What lies on disk for a start. */
  prepare(rendered: RenderedConfiguration): Promise<void> {
    return this.alone(() => writeConfiguration(this.#folder, rendered, 'closed'));
  }

  /** With nothing left of the Postgres before: the next one is started. */
  begin(): void {
    this.#isGoingDown = false;
    this.#mayHaveClients = false;
  }

  /** For one that runs. @throws on its way down; nothing is written then. */
  write(rendered: RenderedConfiguration, access: 'closed' | 'open'): Promise<void> {
    return this.alone(async () => {
      this.assertStaysUp();
      if (access === 'open') this.#mayHaveClients = true;
      await writeConfiguration(this.#folder, rendered, access);
    });
  }

  /** After whatever is being written. On its way down nothing comes after it. */
  shut(): Promise<void> {
    return this.alone(() => writeAccess(this.#folder, 'closed'));
  }

  /** The closed file is in force, and those who were inside have ended. */
  emptied(): void {
    this.#mayHaveClients = false;
  }

  /** Not while anything else of Postgres' files is written. */
  alone<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
