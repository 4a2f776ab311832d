/**
 * Who waits for a connection, and whose turn it is: tenants take turns, and of one tenant's the first to come is the first to go. A tenant
 * whose transactions hold connections for long has fewer turns: it owes one for each so many milliseconds that it held one (deficit
 * round robin, with the cost known afterwards). A tenant that holds as many connections as one may waits until it gives one back.
 * Pure: no clock, no timers, no connections.
 *
 * Invariants: the ring has exactly those tenants that have somebody waiting and may hold another connection; every operation takes
 * constant time, on average over the turns that are owed.
 */

/** One who waits. Its place in the queue is the queue's own. */
export class Place<T> {
  readonly value: T;
  tenant: Tenant<T> | undefined;
  before: Place<T> | undefined;
  after: Place<T> | undefined;

  constructor(value: T) {
    this.value = value;
  }
}

interface Tenant<T> {
  readonly name: string;
  first: Place<T> | undefined;
  last: Place<T> | undefined;
  /** Connections that it holds. */
  held: number;
  /** Turns that it owes. */
  owed: number;
  isInRing: boolean;
  before: Tenant<T>;
  after: Tenant<T>;
}

export interface FairQueueOptions {
  /** A connection held for so long costs one turn more. */
  readonly turnMs: number;
  /** A tenant owes no more turns than this, whatever it did. */
  readonly mostOwed: number;
}

const defaults: FairQueueOptions = { turnMs: 10, mostOwed: 16 };

export class FairQueue<T> {
  readonly #options: FairQueueOptions;
  readonly #tenants = new Map<string, Tenant<T>>();
  /** Whose turn is next; the ring goes on from there. */
  #head: Tenant<T> | undefined;
  #length = 0;
  #mostHeld = Number.POSITIVE_INFINITY;

  constructor(options: FairQueueOptions = defaults) {
    this.#options = options;
  }

  get length(): number {
    return this.#length;
  }

  /** Somebody waits who may be served. */
  get isReady(): boolean {
    return this.#head !== undefined;
  }

  /** The connections that one tenant may hold; '' is nobody's, and held by as many as come. */
  set mostHeld(most: number) {
    if (most === this.#mostHeld) return;
    this.#mostHeld = most;
    for (const tenant of this.#tenants.values()) this.#settle(tenant);
  }

  mayHold(tenant: string): boolean {
    return tenant === '' || (this.#tenants.get(tenant)?.held ?? 0) < this.#mostHeld;
  }

  push(name: string, value: T): Place<T> {
    const tenant = this.#tenantOf(name);
    const place = new Place(value);
    place.tenant = tenant;
    place.before = tenant.last;
    if (tenant.last === undefined) tenant.first = place;
    else tenant.last.after = place;
    tenant.last = place;
    this.#length += 1;
    this.#settle(tenant);
    return place;
  }

  /** Who is next; stays so until something changes. Undefined where nobody waits who may be served. */
  peek(): T | undefined {
    for (let tenant = this.#head; tenant !== undefined; tenant = this.#head) {
      // With nobody else in the ring there is nobody to owe a turn to.
      if (tenant.owed === 0 || tenant.after === tenant) return tenant.first?.value;
      tenant.owed -= 1;
      this.#head = tenant.after;
    }
    return undefined;
  }

  /** The next one, who waits no longer. */
  shift(): T | undefined {
    const value = this.peek();
    const tenant = this.#head;
    if (tenant?.first === undefined) return undefined;
    this.#head = tenant.after;
    this.#unlink(tenant.first);
    return value;
  }

  /** No longer wanted. Does nothing where it isn't in the queue any more. */
  remove(place: Place<T>): void {
    if (place.tenant !== undefined) this.#unlink(place);
  }

  /** Everybody, or the next so many, in turn, whether or not they may be served. */
  drain(most = Number.POSITIVE_INFINITY): T[] {
    const drained: T[] = [];
    while (drained.length < most) {
      const value = this.shift();
      if (value === undefined) break;
      drained.push(value);
    }
    for (const tenant of this.#tenants.values())
      while (drained.length < most && tenant.first !== undefined) {
        drained.push(tenant.first.value);
        this.#unlink(tenant.first);
      }
    return drained;
  }

  /** It has been lent a connection. */
  took(name: string): void {
    if (name === '') return;
    const tenant = this.#tenantOf(name);
    tenant.held += 1;
    this.#settle(tenant);
  }

  /** It has given one back that it held for so long. */
  gave(name: string, heldMs: number): void {
    const tenant = name === '' ? undefined : this.#tenants.get(name);
    if (tenant === undefined) return;
    tenant.held -= 1;
    // While nobody waits, nobody is kept from anything.
    if (this.#length > 0)
      tenant.owed = Math.min(this.#options.mostOwed, tenant.owed + Math.floor(heldMs / this.#options.turnMs));
    this.#settle(tenant);
  }

  /** Everybody who waits, tenant by tenant. */
  *values(): Iterable<T> {
    for (const tenant of this.#tenants.values())
      for (let place = tenant.first; place !== undefined; place = place.after) yield place.value;
  }

  // ---- the ring

  #tenantOf(name: string): Tenant<T> {
    let tenant = this.#tenants.get(name);
    if (tenant === undefined) {
      const made = {
        name,
        first: undefined,
        last: undefined,
        held: 0,
        owed: 0,
        isInRing: false,
      } as unknown as Tenant<T>;
      made.before = made;
      made.after = made;
      tenant = made;
      this.#tenants.set(name, tenant);
    }
    return tenant;
  }

  #unlink(place: Place<T>): void {
    const tenant = place.tenant as Tenant<T>;
    place.tenant = undefined;
    if (place.before === undefined) tenant.first = place.after;
    else place.before.after = place.after;
    if (place.after === undefined) tenant.last = place.before;
    else place.after.before = place.before;
    place.before = undefined;
    place.after = undefined;
    this.#length -= 1;
    if (this.#length === 0) this.#forgive();
    this.#settle(tenant);
  }

  /** Nobody waits any more: nobody owes anything. */
  #forgive(): void {
    for (const tenant of this.#tenants.values()) {
      tenant.owed = 0;
      this.#settle(tenant);
    }
  }

  /** In the ring, out of it, or forgotten. */
  #settle(tenant: Tenant<T>): void {
    const belongs = tenant.first !== undefined && (tenant.name === '' || tenant.held < this.#mostHeld);
    if (belongs && !tenant.isInRing) this.#enter(tenant);
    else if (!belongs && tenant.isInRing) this.#leave(tenant);
    if (tenant.first === undefined && tenant.held === 0 && tenant.owed === 0) this.#tenants.delete(tenant.name);
  }

  /** Behind everybody else. */
  #enter(tenant: Tenant<T>): void {
    tenant.isInRing = true;
    const head = this.#head;
    if (head === undefined) {
      tenant.before = tenant;
      tenant.after = tenant;
      this.#head = tenant;
      return;
    }
    tenant.after = head;
    tenant.before = head.before;
    head.before.after = tenant;
    head.before = tenant;
  }

  #leave(tenant: Tenant<T>): void {
    tenant.isInRing = false;
    if (tenant.after === tenant) this.#head = undefined;
    else {
      tenant.before.after = tenant.after;
      tenant.after.before = tenant.before;
      if (this.#head === tenant) this.#head = tenant.after;
    }
    tenant.before = tenant;
    tenant.after = tenant;
  }
}
