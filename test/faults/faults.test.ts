/**
 * The part of `npm run test:faults` that is in `npm test`: a few faults, one of each sort, on the real cluster with live
 * histories that are judged. It pauses nodes and cuts networks, so nothing else may run on the cluster meanwhile.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ensureCluster } from '#cluster/cluster.ts';
import { faultNamed } from './catalogue.ts';
import { Installation } from './installation.ts';
import { runRound } from './round.ts';

const tried = ['pod-deleted', 'agent-stopped', 'region-cut-off', 'operator-paused-through-failover'] as const;

describe('a shard under writers and readers', () => {
  let installation: Installation;
  let folder: string;
  const firstRun = Math.floor(Date.now() / 1000) % 1_000_000_000;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-faults-'));
    installation = new Installation(await ensureCluster(), { keyspace: 'faults', acknowledgements: 1 });
    await installation.cluster.faults.healAll();
    await installation.remove();
    await installation.deploy(() => {});
  });
  after(async () => {
    await installation.cluster.faults.healAll();
    await installation.remove();
    await rm(folder, { recursive: true, force: true });
  });

  for (const [n, name] of tried.entries()) {
    it(`keeps its word through ${name}`, async (context) => {
      const result = await runRound(installation, faultNamed(name), {
        round: firstRun,
        run: firstRun + n,
        folder,
        tell: () => {},
        // How long it takes is measured by the whole run, on a machine with nothing else to do; here it must end.
        silenceFactor: 3,
      });
      const { epochs, longestSilenceMs, operations, unknown, notes, settledAfterHealMs } = result;
      context.diagnostic(
        `${name}: epoch ${epochs.join(' to ')}, silent for ${longestSilenceMs} ms, settled ${settledAfterHealMs} ms after healing, ` +
          `${operations} operations, ${unknown} of unknown outcome; ${notes.join('; ')}`,
      );
      assert.deepEqual(result.findings, []);
      assert.ok(operations > 500, `only ${operations} operations: little was tested`);
    });
  }
});
