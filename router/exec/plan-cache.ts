/**
 * Plans of statements, bounded in bytes. One statement by itself is found by its shape (`plan/shape.ts`): scanned, not parsed, with one
 * plan for all texts that differ in comments and in constants that the plan doesn't depend on. Everything else is found by its text.
 * A plan depends on the catalogue with its search path as well, and on nothing else; hints are read from each text by itself.
 *
 * Invariant: an entry is used only if the whole shape, and the constants that it pins, are the same byte for byte.
 */
import { randomInt } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { indexOfReference, keyOfReference } from '../plan/literals.ts';
import { marks, ShapeScanner } from '../plan/shape.ts';
import type { Catalogue, Constants, Hints, Planner, ShapedPlan, StatementPlan } from '../plan/types.ts';
import { type Template, templateOf } from './parameterised.ts';

export interface PlannedStatement {
  /** Shared by all texts of its shape: its `text` is that of one of them. */
  readonly plan: StatementPlan;
  /** Of the comment at the start of this very statement. */
  readonly hints: Hints;
  /** What stands in this very statement for each of `plan.tenant.literals`. */
  readonly keys: readonly string[];
  /** How texts of its shape are said with parameters. */
  readonly template?: Template | undefined;
}

interface Entry {
  readonly catalogue: number;
  readonly shape: Uint8Array;
  /** Constants by index that a text must have in common with it; their bytes, one after another. */
  readonly pinned: readonly number[];
  /** Undefined where those of `pinned` decide: then an entry of its own has the plan. */
  readonly found: Found | undefined;
}

interface Found {
  readonly pinnedBytes: Uint8Array;
  readonly plan: StatementPlan;
  readonly literals: readonly number[];
  readonly template: Template | undefined;
  /** For texts without hints and keys of their own. */
  readonly planned: readonly PlannedStatement[];
}

/** What a plan weighs besides its text, roughly. */
const planOverheadBytes = 1_024;
/** Longer texts are planned once as they are: finding a shape plans twice, and everybody else on the worker waits meanwhile. */
const maxShapedBytes = 64 * 1024;
/** Longer texts are planned anew each time. */
const maxTextLength = 1024 * 1024;

const noHints: Hints = {};
const noKeys: readonly string[] = [];
const noLiterals: readonly number[] = [];

export class PlanCache {
  readonly #planner: Planner;
  readonly #shapes: LRUCache<number, Entry>;
  readonly #texts: LRUCache<string, readonly PlannedStatement[]>;
  readonly #scanner = new ShapeScanner();
  readonly #encoded = Buffer.allocUnsafe(maxShapedBytes);
  readonly #encoder = new TextEncoder();
  readonly #seed = randomInt(2 ** 32) | 0;
  readonly #catalogues = new WeakMap<Catalogue, number>();
  #lastCatalogue: Catalogue | undefined;
  #lastNumber = 0;
  #catalogueCount = 0;

  constructor(planner: Planner, maxBytes = 32 * 1024 * 1024) {
    this.#planner = planner;
    this.#shapes = new LRUCache({
      maxSize: Math.ceil(maxBytes * 0.75),
      sizeCalculation: ({ shape, found }) =>
        planOverheadBytes +
        shape.length +
        (found === undefined
          ? 0
          : weightOf(found.plan) + found.pinnedBytes.length + (found.template?.body.length ?? 0)),
    });
    this.#texts = new LRUCache({
      maxSize: Math.ceil(maxBytes * 0.25),
      sizeCalculation: (planned, key) =>
        planned.reduce((sum, { plan }) => sum + planOverheadBytes + weightOf(plan), key.length * 2),
    });
  }

  /** What its plans weigh, roughly. */
  get bytes(): number {
    return this.#shapes.calculatedSize + this.#texts.calculatedSize;
  }

  /** @throws PlanError on a syntax error; those aren't kept. */
  plan(sql: string, catalogue: Catalogue): readonly PlannedStatement[] {
    const { read, written } = this.#encoder.encodeInto(sql, this.#encoded);
    return read < sql.length
      ? this.#planText(sql, catalogue)
      : this.planBytes(this.#encoded, 0, written, catalogue, sql);
  }

  /** The text as it is on the wire, without its terminator. `sql`: the same, where it is known. */
  planBytes(
    bytes: Buffer,
    start: number,
    end: number,
    catalogue: Catalogue,
    sql?: string,
  ): readonly PlannedStatement[] {
    const number = this.#numberOf(catalogue);
    const scanner = this.#scanner;
    if (end - start > maxShapedBytes || !scanner.scan(bytes, start, end, Math.imul(this.#seed ^ number, 0x01000193)))
      return this.#planText(sql ?? bytes.toString('utf8', start, end), catalogue);
    const entry = this.#shapes.get(scanner.hash);
    if (entry === undefined || !this.#isOf(entry, number))
      return this.#planShape(bytes, start, end, catalogue, number, sql);
    const decided = entry.found === undefined ? this.#shapes.get(this.#pinnedHash(bytes, entry.pinned)) : entry;
    const found = decided?.found;
    if (
      decided === undefined ||
      found === undefined ||
      (decided !== entry && !this.#isOf(decided, number)) ||
      (decided.pinned.length > 0 && !this.#hasPinned(bytes, decided.pinned, found))
    )
      return this.#planShape(bytes, start, end, catalogue, number, sql);
    if (scanner.hintEnd === 0 && found.literals.length === 0) return found.planned;
    return [this.#instance(found, bytes)];
  }

  #instance({ plan, literals, template }: Found, bytes: Buffer): PlannedStatement {
    const scanner = this.#scanner;
    const { hintStart, hintEnd } = scanner;
    return {
      plan,
      hints: hintEnd === 0 ? noHints : this.#planner.parseHints(bytes.toString('utf8', hintStart, hintEnd)),
      keys: literals.length === 0 ? noKeys : this.#keys(literals, bytes),
      template,
    };
  }

  #keys(literals: readonly number[], bytes: Buffer): readonly string[] {
    const { starts, ends, kinds } = this.#scanner;
    return literals.map((reference) => {
      const index = indexOfReference(reference);
      const key = keyText(bytes, starts[index] as number, ends[index] as number, kinds[index] as number) ?? '';
      return keyOfReference(reference, key);
    });
  }

  #planText(sql: string, catalogue: Catalogue): readonly PlannedStatement[] {
    const key = `${this.#numberOf(catalogue)}\0${sql}`;
    const known = this.#texts.get(key);
    if (known !== undefined) return known;
    const planned = this.#planner.plan(sql, catalogue).map((plan, index) => ({
      plan,
      hints: this.#planner.parseHints(index === 0 ? sql : plan.text),
      keys: noKeys,
    }));
    if (sql.length <= maxTextLength) this.#texts.set(key, planned);
    return planned;
  }

  /** The scanner has scanned the text, whose shape isn't known. */
  #planShape(
    bytes: Buffer,
    start: number,
    end: number,
    catalogue: Catalogue,
    number: number,
    sql = bytes.toString('utf8', start, end),
  ): readonly PlannedStatement[] {
    const { shaped } = this.#planner.planShape(sql, this.#constants(bytes, start), catalogue);
    // More statements than the scanner saw, or none: then it is no shape.
    if (shaped === undefined) return this.#planText(sql, catalogue);
    const found = this.#keep(bytes, number, shaped);
    return this.#scanner.hintEnd === 0 && found.literals.length === 0 ? found.planned : [this.#instance(found, bytes)];
  }

  #keep(bytes: Buffer, catalogue: number, { plan, pinned, parameters }: ShapedPlan): Found {
    const scanner = this.#scanner;
    const shape = scanner.shape.slice(0, scanner.length);
    const { starts, ends } = scanner;
    const template = parameters === undefined ? undefined : templateOf(scanner, bytes, parameters, catalogue);
    const found: Found = {
      pinnedBytes: Buffer.concat(pinned.map((index) => bytes.subarray(starts[index], ends[index]))),
      plan,
      literals: ('literals' in plan.tenant ? plan.tenant.literals : undefined) ?? noLiterals,
      template,
      planned: [{ plan, hints: noHints, keys: noKeys, template }],
    };
    const entry: Entry = { catalogue, shape, pinned, found };
    if (pinned.length === 0) this.#shapes.set(scanner.hash, entry);
    else {
      this.#shapes.set(scanner.hash, { ...entry, found: undefined });
      this.#shapes.set(this.#pinnedHash(bytes, pinned), entry);
    }
    return found;
  }

  #isOf(entry: Entry, catalogue: number): boolean {
    const { shape, length } = this.#scanner;
    const known = entry.shape;
    if (entry.catalogue !== catalogue || known.length !== length) return false;
    for (let index = 0; index < length; index++) if (known[index] !== shape[index]) return false;
    return true;
  }

  #hasPinned(bytes: Buffer, pinned: readonly number[], { pinnedBytes }: Found): boolean {
    const { starts, ends } = this.#scanner;
    let at = 0;
    for (const literal of pinned) {
      const end = ends[literal] as number;
      for (let index = starts[literal] as number; index < end; index++)
        if (bytes[index] !== pinnedBytes[at++]) return false;
    }
    return at === pinnedBytes.length;
  }

  #pinnedHash(bytes: Buffer, pinned: readonly number[]): number {
    const { starts, ends } = this.#scanner;
    let hash = ~this.#scanner.hash;
    for (const literal of pinned) {
      const end = ends[literal] as number;
      for (let index = starts[literal] as number; index < end; index++)
        hash = Math.imul(hash ^ (bytes[index] as number), 0x01000193);
    }
    return hash;
  }

  #numberOf(catalogue: Catalogue): number {
    if (catalogue === this.#lastCatalogue) return this.#lastNumber;
    let number = this.#catalogues.get(catalogue);
    if (number === undefined) this.#catalogues.set(catalogue, (number = this.#catalogueCount += 1));
    this.#lastCatalogue = catalogue;
    this.#lastNumber = number;
    return number;
  }

  /** What the scanner found. `start`: of the text in `bytes`. */
  #constants(bytes: Buffer, start: number): Constants {
    const { count, starts, ends, kinds } = this.#scanner;
    return {
      count,
      start: (index) => (starts[index] as number) - start,
      key: (index) => keyText(bytes, starts[index] as number, ends[index] as number, kinds[index] as number),
    };
  }
}

const weightOf = ({ text, tables, calls }: StatementPlan): number =>
  text.length * 2 + (tables.length + calls.length) * 64;

/** The value of a string or an integer; decimals are no keys. */
function keyText(bytes: Buffer, start: number, end: number, kind: number): string | undefined {
  if (kind === marks.decimal) return undefined;
  if (kind !== marks.string) return bytes.toString('latin1', start, end);
  const text = bytes.toString('utf8', start + 1, end - 1);
  return text.includes("'") ? text.replaceAll("''", "'") : text;
}
