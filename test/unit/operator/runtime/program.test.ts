/** The operator's process as a whole, without controllers: probes, settings, hand-over. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { KubeApi } from '#kube/client.ts';
import { leases } from '#kube/kinds.ts';
import { runOperator } from '#operator/runtime/program.ts';
import { type OperatorSettings, readSettings } from '#operator/runtime/settings.ts';
import { FakeApiServer } from '../../kube/fake/server.ts';

const env = {
  POD_NAME: 'meridian-operator-x',
  POD_NAMESPACE: 'meridian',
  MERIDIAN_POSTGRES_IMAGE: 'meridian/postgres:1',
  MERIDIAN_PROGRAMS_IMAGE: 'meridian/programs:1',
};

describe('settings of the operator', () => {
  it('watch everything and listen on 8080 unless told otherwise', () => {
    const settings = readSettings(env);
    assert.deepEqual(
      [settings.watchNamespace, settings.port, settings.leaseName],
      [undefined, 8080, 'meridian-operator'],
    );
    assert.equal(readSettings({ ...env, WATCH_NAMESPACE: 'shop' }).watchNamespace, 'shop');
  });

  it('name every variable that is missing or wrong', () => {
    assert.throws(
      () => readSettings({ ...env, POD_NAME: undefined, MERIDIAN_PORT: 'many' }),
      /POD_NAME: .*MERIDIAN_PORT: /s,
    );
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe('operator process', { timeout: 60_000 }, () => {
  const server = new FakeApiServer();
  before(() => server.start());
  after(() => server.stop());

  it('leads, answers probes, and gives its lease up when it is told to end', async () => {
    const end = new AbortController();
    const port = await freePort();
    const settings: OperatorSettings = { ...readSettings(env), port };
    const registered: string[] = [];
    const running = runOperator(
      {
        configuration: server.configuration,
        settings,
        log: pino({ level: 'silent' }),
        registerControllers: (_runtime, deps) => registered.push(deps.images.postgres),
      },
      end.signal,
    );
    const ask = async (path: string): Promise<[number, string]> => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      return [answer.status, await answer.text()];
    };
    const api = new KubeApi(server.configuration);
    const holder = async (): Promise<string | undefined> =>
      (await api.of(leases).find({ namespace: 'meridian', name: 'meridian-operator' }))?.spec?.holderIdentity;
    while ((await holder()) === undefined) await sleep(10);
    // It hears of its own leadership a moment after the API server.
    while (!/^meridian_leader 1$/m.test((await ask('/metrics'))[1]) || (await ask('/readyz'))[0] !== 200)
      await sleep(10);
    assert.match((await holder()) ?? '', /^meridian-operator-x_/);
    assert.deepEqual(await ask('/livez'), [200, 'ok\n']);
    assert.deepEqual(await ask('/readyz'), [200, 'ok\n']);
    assert.equal((await ask('/nothing'))[0], 404);
    assert.match((await ask('/metrics'))[1], /^meridian_leader 1$/m);
    assert.deepEqual(registered, ['meridian/postgres:1']);
    end.abort();
    await running;
    assert.equal(await holder(), '');
    await api.close();
  });
});
