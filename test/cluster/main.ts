// `npm run cluster -- up | down | status | load IMAGE...`.
import { Command } from 'commander';
import { attach, chooseProvider, providerFromEnvironment } from './cluster.ts';
import { note } from './progress.ts';
const program = new Command('npm run cluster --').description('A test cluster of three regions');
program.command('up').action(async () => {
  const startedAt = performance.now();
  const provider = await chooseProvider();
  await provider.up();
  note(`up in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  process.stdout.write(`export KUBECONFIG=${provider.kubeconfigPath}\n`);
});
program.command('load').argument('<image...>').action(async (tags: string[]) => {
  await (await attach(await chooseProvider())).loadImages(tags);
});
program.command('down').option('--purge').action(async (o: { purge?: boolean }) => {
  await (await chooseProvider(providerFromEnvironment() ?? 'local')).down({ purge: o.purge === true });
});
await program.parseAsync();
