/** One session's part in the client connections of its role, and of the tenants that it has chosen. */

export class Membership {
  readonly #tenants = new Set<string>();
  readonly #enter: (tenant: string, isForced: boolean) => void;
  readonly #leave: (tenant: string) => void;
  readonly #end: () => void;
  #isOver = false;

  constructor(enter: (tenant: string, isForced: boolean) => void, leave: (tenant: string) => void, end: () => void) {
    this.#enter = enter;
    this.#leave = leave;
    this.#end = end;
  }

  /** The session chooses that tenant; until it is settled it counts for those of before as well. @throws RouterError */
  reserve(tenant: string): void {
    if (this.#isOver || this.#tenants.has(tenant)) return;
    this.#enter(tenant, false);
    this.#tenants.add(tenant);
  }

  /**
   * What it has chosen, for sure or until its transaction ends: it counts for these only. A RESET may bring back one that it has left:
   * that can't be refused any more.
   */
  settle(...chosen: readonly (string | undefined)[]): void {
    for (const tenant of chosen) {
      if (this.#isOver || tenant === undefined || this.#tenants.has(tenant)) continue;
      this.#tenants.add(tenant);
      this.#enter(tenant, true);
    }
    for (const tenant of this.#tenants) {
      if (chosen.includes(tenant)) continue;
      this.#tenants.delete(tenant);
      this.#leave(tenant);
    }
  }

  leave(): void {
    if (this.#isOver) return;
    this.settle();
    this.#isOver = true;
    this.#end();
  }
}
