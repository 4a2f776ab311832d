/**
 * The parts of `npm run test:faults` and `npm run test:consistency` that are in `npm test`: a few faults, one of each sort, and a short
 * journey of readers while followers are held back, on the real cluster with live histories that are judged. It pauses nodes and cuts
 * networks, so nothing else may run on the cluster meanwhile.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ensureCluster } from '#cluster/cluster.ts';
import { disturbed } from '../consistency/disturbed.ts';
import { HoldingBack } from '../consistency/holding-back.ts';
import { travel } from '../consistency/journeys.ts';
import { historyTenant } from '../history/workload.ts';
import { faultNamed } from './catalogue.ts';
import { Installation } from './installation.ts';
import { regions } from './manifests.ts';
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

  it('shows readers what their levels promise, from router to router with their tokens, while followers are held back', async (context) => {
    const holding = new HoldingBack(installation, { isFailingOver: true });
    const { counts, verdicts, failed, unknown } = await disturbed([holding], () =>
      travel({
        doors: regions.map((region) => installation.door(region)),
        tenant: historyTenant,
        run: firstRun + tried.length,
        seed: firstRun,
        folder,
        travellers: { strong: 2, causal: 8, bounded: 4, eventual: 2 },
        maxStalenessMs: 1_000,
        reads: 1_200,
        // Somebody is held back by pause and by delay while they read, however quick they are.
        isEnough: () => holding.held > 2 || holding.hasFailed,
        readsPerPortion: 10_000,
      }),
    );
    for (const [level, { reads, asked, byFollowers }] of Object.entries(counts))
      context.diagnostic(`${level}: ${reads} reads, ${byFollowers} of ${asked} asked by followers`);
    context.diagnostic(`held back ${holding.held} times; ${failed} operations failed, ${unknown} of unknown outcome`);
    assert.deepEqual(
      verdicts.filter(({ valid }) => valid !== true),
      [],
    );
    assert.equal(counts.strong.byFollowers, 0);
    for (const level of ['causal', 'bounded', 'eventual'] as const)
      assert.ok(counts[level].byFollowers > 0, `no ${level} read was served by a follower`);
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
