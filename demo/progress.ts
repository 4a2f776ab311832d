/**
 * How long steps are told: what runs, how long it has taken, and a changing line of what is still waited for.
 * On a terminal the line is rewritten in place; elsewhere a line is printed when the story changes.
 */

const isTerminal = process.stdout.isTTY;
const seconds = (sinceMs: number): string => `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;

/** Runs one named step and prints how long it took; `tell` replaces what is waited for. */
export async function step<T>(name: string, run: (tell: (what: string) => void) => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  let told = '';
  const tell = (what: string): void => {
    if (what === told) return;
    told = what;
    if (isTerminal) process.stdout.write(`\r\x1b[K  … ${name} (${seconds(startedAt)}) ${what}`);
    else process.stdout.write(`  … ${name} (${seconds(startedAt)}) ${what}\n`);
  };
  const clear = isTerminal ? '\r\x1b[K' : '';
  if (isTerminal) tell('');
  try {
    const result = await run(tell);
    process.stdout.write(`${clear}  ✓ ${name} (${seconds(startedAt)})\n`);
    return result;
  } catch (error) {
    process.stdout.write(`${clear}  ✗ ${name} (${seconds(startedAt)}) ${told}\n`);
    throw error;
  }
}
