// Stands in for `run` in unit tests: writes down each command line and answers from a table.
import type { Run } from '#cluster/process.ts';

export interface Recorder {
  readonly run: Run;
  readonly lines: string[];
}

/** The answer is that of the first entry whose key the command line contains, else nothing. */
export function createRecorder(answers: Readonly<Record<string, string>> = {}): Recorder {
  const lines: string[] = [];
  return {
    lines,
    run: async (argv) => {
      const line = argv.join(' ');
      lines.push(line);
      return Object.entries(answers).find(([part]) => line.includes(part))?.[1] ?? '';
    },
  };
}
