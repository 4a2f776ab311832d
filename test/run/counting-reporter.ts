/**
 * A reporter for `node --test` that prints nothing: when the run is over it yields one JSON line with how many tests
 * passed, failed and were skipped. Suites count for nothing; only tests do.
 * Source: Node.js documentation, "Test runner", "Custom reporters".
 */
import type { TestEvent } from 'node:test/reporters';

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

async function* countingReporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for await (const event of source) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    if (event.data.details.type === 'suite') continue;
    if (event.data.skip !== undefined || event.data.todo !== undefined) counts.skipped += 1;
    else if (event.type === 'test:pass') counts.passed += 1;
    else counts.failed += 1;
  }
  yield `${JSON.stringify(counts)}\n`;
}

// biome-ignore lint/style/noDefaultExport: node --test takes a reporter as the default export of its module.
// oxlint-disable-next-line import/no-default-export
export default countingReporter;
