/**
 * What the levels of reading promise, said of lists that are only appended to: every read shows a prefix of one and the same order, of
 * what was committed; no process sees less than it has seen before; a causal read shows what its process has appended; a bounded read
 * shows whatever had been acknowledged so long before it was asked for. Pure. Whether causality holds across processes is adya's to say.
 */
import type { Operation } from '../history/entry.ts';
import { type Verdict, verdictOf } from '../history/judges/verdict.ts';
import type { MicroOperation } from '../history/workloads/list-append.ts';

interface Read {
  readonly process: number;
  readonly list: number;
  readonly elements: readonly number[];
  readonly operation: Operation<readonly MicroOperation[]>;
}

interface Append {
  readonly list: number;
  readonly element: number;
  readonly operation: Operation<readonly MicroOperation[]>;
}

const NANOSECONDS = 1_000_000;

export function judgeReads(
  operations: readonly Operation<readonly MicroOperation[]>[],
  { maxStalenessMs }: { readonly maxStalenessMs: number },
): Verdict {
  const reads: Read[] = [];
  const appends = new Map<number, Append>();
  for (const operation of operations) {
    for (const [kind, list, element] of operation.invoked)
      if (kind === 'append') appends.set(element, { list, element, operation });
    for (const [kind, list, elements] of operation.returned ?? [])
      if (kind === 'r') reads.push({ process: operation.process, list, elements: elements ?? [], operation });
  }
  const findings = [
    ...oneOrder(reads),
    ...onlyCommitted(reads, appends),
    ...neverLess(reads),
    ...ownAppends(reads, appends),
    ...youngEnough(reads, appends, maxStalenessMs),
  ];
  return verdictOf('levels of reading', reads.length, findings);
}

const isPrefix = (short: readonly number[], long: readonly number[]): boolean =>
  short.length <= long.length && short.every((element, index) => long[index] === element);

const told = ({ process, list, elements, operation }: Read): string =>
  `process ${process} read list ${list} at level ${operation.level} as [${elements.join(' ')}]`;

function oneOrder(reads: readonly Read[]): string[] {
  const longest = new Map<number, Read>();
  for (const read of reads)
    if (read.elements.length > (longest.get(read.list)?.elements.length ?? -1)) longest.set(read.list, read);
  return reads
    .filter((read) => !isPrefix(read.elements, longest.get(read.list)?.elements ?? []))
    .map((read) => `${told(read)}, which is no beginning of [${longest.get(read.list)?.elements.join(' ')}]`);
}

function onlyCommitted(reads: readonly Read[], appends: ReadonlyMap<number, Append>): string[] {
  return reads.flatMap((read) =>
    read.elements
      .filter((element) => {
        const append = appends.get(element);
        return append === undefined || append.list !== read.list || append.operation.outcome === 'fail';
      })
      .map((element) => `${told(read)}, with ${element}, which nobody has appended to it`),
  );
}

/** In the order of the process' own operations, which is that of their ends. */
function neverLess(reads: readonly Read[]): string[] {
  const findings: string[] = [];
  const before = new Map<string, Read>();
  for (const read of reads) {
    const key = `${read.process} ${read.list}`;
    const earlier = before.get(key);
    if (earlier !== undefined && earlier.elements.length > read.elements.length)
      findings.push(`${told(read)}, having read [${earlier.elements.join(' ')}] before`);
    before.set(key, read);
  }
  return findings;
}

function ownAppends(reads: readonly Read[], appends: ReadonlyMap<number, Append>): string[] {
  const own = Map.groupBy(
    [...appends.values()].filter(({ operation }) => operation.outcome === 'ok'),
    ({ list, operation }) => `${operation.process} ${list}`,
  );
  return reads
    .filter(({ operation }) => operation.level === 'causal' || operation.level === 'strong')
    .flatMap((read) => {
      const seen = new Set(read.elements);
      return (own.get(`${read.process} ${read.list}`) ?? [])
        .filter(({ element, operation }) => operation.endedAt < read.operation.invokedAt && !seen.has(element))
        .map(({ element }) => `${told(read)}, without ${element}, which it had appended itself`);
    });
}

/** The router gave the answer after it was asked for, so what had to be in it was acknowledged before that, less the bound. */
function youngEnough(reads: readonly Read[], appends: ReadonlyMap<number, Append>, maxStalenessMs: number): string[] {
  const ofList = Map.groupBy(
    [...appends.values()].filter(({ operation }) => operation.outcome === 'ok'),
    ({ list }) => list,
  );
  return reads
    .filter(({ operation }) => operation.level === 'bounded' || operation.level === 'strong')
    .flatMap((read) => {
      const boundNs = read.operation.level === 'strong' ? 0 : maxStalenessMs * NANOSECONDS;
      const seen = new Set(read.elements);
      return (ofList.get(read.list) ?? [])
        .filter(
          ({ element, operation }) => operation.endedAt < read.operation.invokedAt - boundNs && !seen.has(element),
        )
        .map(({ element, operation }) => {
          const ageMs = (read.operation.invokedAt - operation.endedAt) / NANOSECONDS;
          return `${told(read)}, without ${element}, which had been acknowledged ${ageMs.toFixed(0)} ms before`;
        });
    });
}
