// One line when a long step starts, one when it ends with how long it took, and a sign of life every half minute in
// between. Steps may run side by side, so no line is ever rewritten. All of it goes to standard error: standard output
// belongs to what a command was asked for.
import { performance } from 'node:perf_hooks';

const LIFE_SIGN_MS = 30_000;

export async function step<T>(title: string, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const elapsed = (): string => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
  note(`${title} ...`);
  const timer = setInterval(() => note(`${title} ... ${elapsed()} so far`), LIFE_SIGN_MS);
  try {
    const result = await work();
    note(`${title}: done in ${elapsed()}`);
    return result;
  } catch (error) {
    note(`${title}: failed after ${elapsed()}`);
    throw error;
  } finally {
    clearInterval(timer);
  }
}

export function note(text: string): void {
  process.stderr.write(`cluster: ${text}\n`);
}
