/**
 * `npm run simulate`: random walks over the real decisions of authority, from a seed. The first counterexample is shortened and
 * printed; the same seed and options give it again.
 */
import { Command, InvalidArgumentError } from 'commander';
import { plants } from './plants.ts';
import { type Run, type RunOptions, run, shapes } from './random.ts';
import { realRules } from './rules.ts';
import { shorten, trace } from './shorten.ts';

const number = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('a whole number is needed');
  return value;
};

const shape = (text: string): (typeof shapes)[number] => {
  const found = shapes.find(([members, k]) => `${members}/${k}` === text);
  if (found === undefined)
    throw new InvalidArgumentError(`one of ${shapes.map(([members, k]) => `${members}/${k}`).join(', ')}`);
  return found;
};

const program = new Command('npm run simulate --')
  .description(
    'Random walks of simulated members, operators, API server and network over the real decisions of authority.',
  )
  .option('--seed <n>', 'first seed; run i uses seed n + i', number, 1)
  .option('--runs <n>', 'how many walks', number, 1_000)
  .option('--steps <n>', 'actions in each walk', number, 300)
  .option('--shape <members/k>', 'only this number of members and of acknowledgements', shape)
  .option('--plant <name>', `with a planted bug: ${plants.map(({ name }) => name).join(', ')}`)
  .option('--no-progress-check', "don't require the shard to come back once faults stop")
  .option('--whole', 'print the counterexample as it was found, not shortened')
  .addHelpText(
    'after',
    `
Checked at every step: at most one member can acknowledge a write or have a strong read delivered; whatever a client was told
is in the log of the newest primary; nobody streams onto a log of another history. At the end of each walk the faults stop,
and the shard has to come back and take a write within two minutes of simulated time.

Examples:
  npm run simulate -- --seed 42 --runs 1          replay one walk
  npm run simulate -- --runs 20000 --shape 5/2    many of one kind
  npm run simulate -- --plant wait --runs 500     see a planted bug found`,
  );

program.parse();
const options = program.opts<{
  seed: number;
  runs: number;
  steps: number;
  shape?: (typeof shapes)[number];
  plant?: string;
  progressCheck: boolean;
  whole?: boolean;
}>();

const plant = plants.find(({ name }) => name === options.plant);
if (options.plant !== undefined && plant === undefined) program.error(`no planted bug is called ${options.plant}`);
const rules = plant?.rules ?? realRules;
const walk: RunOptions = {
  steps: options.steps,
  settles: plant === undefined && options.progressCheck,
  ...(options.shape === undefined ? plant && { shapes: plant.shapes } : { shapes: [options.shape] }),
  ...(plant?.emphasis && { emphasis: plant.emphasis }),
  ...(plant?.wish !== undefined && { wish: plant.wish }),
};

const startedAt = performance.now();
const seconds = (): number => (performance.now() - startedAt) / 1_000;
let steps = 0;
let saidAt = 0;
for (let index = 0; index < options.runs; index += 1) {
  const seed = options.seed + index;
  const outcome = run(seed, rules, walk);
  steps += outcome.actions.length;
  if (outcome.violation !== undefined) {
    tell(seed, outcome);
    process.exit(1);
  }
  if (seconds() - saidAt >= 5) {
    saidAt = seconds();
    const left = (saidAt / (index + 1)) * (options.runs - index - 1);
    process.stderr.write(
      `${index + 1} of ${options.runs} walks, ${steps} actions tried, about ${left.toFixed(0)} s left\n`,
    );
  }
}
process.stdout.write(
  `${options.runs} walks from seed ${options.seed}, ${steps} actions tried, ${seconds().toFixed(1)} s: no violation\n`,
);

function tell(seed: number, { shape: found, actions, violation, whileSettling }: Run): void {
  if (violation === undefined) return;
  const shown = options.whole === true ? actions : shorten(found, rules, actions, violation.kind, whileSettling);
  process.stdout.write(
    `seed ${seed}: ${violation.message}\n\n` +
      `${found.members} members, k = ${found.k} (wanted: ${found.wish}), ${found.operators} operator(s), ` +
      `messages ${found.delays ? 'delayed' : 'at once'}, onLoss ${found.onLoss}, drift ${found.drift * 100} %\n` +
      `${shown.length} of ${actions.length} actions:\n` +
      `${trace(found, rules, shown)
        .map((line, at) => `${String(at + 1).padStart(4)}  ${line}`)
        .join('\n')}\n` +
      `${whileSettling ? '      then the faults stop, everybody comes back, and it shows within two minutes\n' : ''}\n` +
      `again: npm run simulate -- --seed ${seed} --runs 1 --steps ${options.steps}${plant === undefined ? '' : ` --plant ${plant.name}`}` +
      `${options.shape === undefined ? '' : ` --shape ${options.shape.join('/')}`}\n`,
  );
}
