// `npm run cluster -- up | down | status | load IMAGE... | fault ...`: the command line of the test cluster. Wiring
// only; see cluster.ts for what tests and the demo use.

import { rm } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { cacheFolder } from './cache.ts';
import { attach, chooseProvider, PROVIDER_NAMES, type ProviderName } from './cluster.ts';
import { faultCommand } from './fault-commands.ts';
import { CommandError } from './process.ts';
import { note } from './progress.ts';

const program = new Command('npm run cluster --')
  .description('A Kubernetes cluster of three regions for tests and the demo')
  .addOption(
    new Option('--provider <name>', 'where its nodes come from').choices([...PROVIDER_NAMES]).env('MERIDIAN_CLUSTER'),
  );
const provider = () => chooseProvider(program.opts<{ provider?: ProviderName }>().provider);

program
  .command('up')
  .description('bring the cluster up; quick when it is')
  .action(async () => {
    const startedAt = performance.now();
    const chosen = await provider();
    await chosen.up();
    const { kubectlPath } = await attach(chosen);
    note(`the ${chosen.name} cluster is up (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
    process.stdout.write(`export KUBECONFIG=${chosen.kubeconfigPath}\n`);
    note(`kubectl, if you have none: ${kubectlPath}`);
  });

program
  .command('down')
  .description('remove the cluster; what was built stays in the cache')
  .option('--purge', 'remove the cache, too', false)
  .action(async ({ purge }: { purge: boolean }) => {
    await (await provider()).down();
    if (purge) await rm(cacheFolder(), { recursive: true, force: true });
  });

program
  .command('status')
  .description('what runs, and where it logs')
  .action(async () => {
    const chosen = await provider();
    const { running, lines } = await chosen.status();
    process.stdout.write(`${[`${chosen.name}: ${running ? 'running' : 'not running'}`, ...lines].join('\n')}\n`);
    if (running) {
      const cluster = await attach(chosen);
      process.stdout.write(await cluster.kubectl(['get', 'nodes', '-L', 'topology.kubernetes.io/region']));
      process.stdout.write(`export KUBECONFIG=${chosen.kubeconfigPath}\n`);
    }
    process.exitCode = running ? 0 : 1;
  });

program
  .command('load')
  .description("make local Docker images known to the regions' nodes")
  .argument('<image...>')
  .action(async (images: string[]) => (await provider()).loadImages(images));

program.addCommand(faultCommand(async () => attach(await provider())));

// `... status | head -1` closes the pipe before all is written.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  // What a program printed says more than where we called it from.
  note(error instanceof CommandError || process.env['DEBUG'] === undefined ? error.message : (error.stack ?? ''));
  process.exitCode = 1;
}
