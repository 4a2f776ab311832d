/**
 * The ownership rows of each shard's primary, read once for all its tenants and remembered for a while: asking for each tenant would
 * be one query per tenant and look. What is remembered is a hint: every write compares with what the shard really has.
 */
import type { OwnedTenant } from '#operator/postgres/ownership/tenants.ts';
import type { OwnershipRow, RowView } from './snapshot.ts';

/** One shard's primary at one epoch: after a failover everything is read again. */
export interface ShardIdentity {
  readonly uid: string;
  readonly epoch: number;
  readonly incarnation: string;
}

interface Reading {
  readonly rows: Promise<ReadonlyMap<string, OwnershipRow>>;
  readonly atMs: number;
  readonly epoch: number;
  readonly incarnation: string;
  hasFailed: boolean;
  /** What was written since. */
  readonly written: Map<string, OwnershipRow | undefined>;
}

const lifeMs = 5 * 60_000;
/** A shard that just failed to answer isn't asked again at once by each of its tenants. */
const failedLifeMs = 1_000;

export class OwnershipReader {
  readonly #readings = new Map<string, Reading>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs;
  }

  /** The row of one tenant. Never throws: a shard that doesn't answer leaves it unknown. */
  async row(shard: ShardIdentity, key: string, read: () => Promise<readonly OwnedTenant[]>): Promise<RowView> {
    const reading = this.#fresh(shard) ?? this.#begin(shard, read);
    try {
      const rows = await reading.rows;
      const row = reading.written.has(key) ? reading.written.get(key) : rows.get(key);
      return row === undefined ? { kind: 'absent' } : { kind: 'present', row };
    } catch (error) {
      reading.hasFailed = true;
      const message = error instanceof Error ? error.message : String(error);
      return { kind: 'unknown', message: message.slice(0, 500) };
    }
  }

  /** Remembers what was just written; undefined for a row that was taken away. */
  note(uid: string, key: string, row: OwnershipRow | undefined): void {
    this.#readings.get(uid)?.written.set(key, row);
  }

  /** The shard turned out to be otherwise than remembered. */
  forget(uid: string): void {
    this.#readings.delete(uid);
  }

  #fresh(shard: ShardIdentity): Reading | undefined {
    const reading = this.#readings.get(shard.uid);
    if (reading === undefined || reading.epoch !== shard.epoch || reading.incarnation !== shard.incarnation)
      return undefined;
    return this.#nowMs() - reading.atMs < (reading.hasFailed ? failedLifeMs : lifeMs) ? reading : undefined;
  }

  #begin(shard: ShardIdentity, read: () => Promise<readonly OwnedTenant[]>): Reading {
    const rows = read().then((list) => new Map(list.map((row) => [row.key, row])));
    const { epoch, incarnation } = shard;
    const reading: Reading = { rows, atMs: this.#nowMs(), epoch, incarnation, hasFailed: false, written: new Map() };
    this.#readings.set(shard.uid, reading);
    return reading;
  }
}
