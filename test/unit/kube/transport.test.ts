/** What the transport does when the API server doesn't do its part. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Configuration, Credentials } from '#kube/configuration.ts';
import { ApiError } from '#kube/errors.ts';
import { Transport } from '#kube/transport.ts';
import { FakeApiServer } from './fake/server.ts';

describe('transport', () => {
  let server: FakeApiServer;
  let transport: Transport;
  // A server of its own for each: what one gave up on may come late, or its fault may never be asked for.
  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
    transport = new Transport(server.configuration);
  });
  afterEach(async () => {
    await transport.close();
    await server.stop();
  });

  const path = '/api/v1/namespaces/a/configmaps';
  const failure = async (promise: Promise<unknown>): Promise<ApiError> => {
    try {
      await promise;
    } catch (error) {
      assert.ok(error instanceof ApiError, String(error));
      return error;
    }
    throw new Error('did not fail');
  };

  it('repeats a read whose connection was reset', async () => {
    server.resetNext(2);
    await transport.json({ method: 'GET', path });
    assert.equal(server.requests.length, 3);
  });

  it('gives a read up after three tries', async () => {
    server.resetNext(3);
    assert.equal((await failure(transport.json({ method: 'GET', path }))).reason, 'Unreachable');
    assert.equal(server.requests.length, 3);
  });

  it('never repeats a write, since nobody knows whether it was done', async () => {
    server.resetNext();
    const error = await failure(transport.json({ method: 'POST', path, body: {} }));
    assert.deepEqual([error.reason, error.status, error.isTransient], ['Unreachable', 0, true]);
    assert.equal(server.requests.length, 1);
  });

  it('gives up on an answer that does not come, and says which', async () => {
    server.stallNext();
    const error = await failure(transport.json({ method: 'GET', path, timeoutMs: 80 }));
    assert.equal(error.reason, 'Timeout');
    assert.match(error.message, /GET \/api\/v1\/namespaces\/a\/configmaps: no answer in 80 ms/);
  });

  it('an aborted request ends at once and is not repeated', async () => {
    server.stallNext();
    const stop = new AbortController();
    server.onRequest = () => stop.abort();
    assert.equal((await failure(transport.json({ method: 'GET', path, signal: stop.signal }))).reason, 'Aborted');
    assert.equal(server.requests.length, 1);
  });

  it('keeps the pause that the server asks for', async () => {
    server.answerNext(429, 1, { 'retry-after': '7' });
    const error = await failure(transport.json({ method: 'GET', path }));
    assert.deepEqual([error.status, error.retryAfterMs, error.isTransient], [429, 7000, true]);
  });

  it('reads the token anew after a 401, and tries once more', async () => {
    server.token = 'new';
    let asked = 0;
    const configuration: Configuration = {
      ...server.configuration,
      credentials: (refresh): Promise<Credentials> => {
        asked += 1;
        return Promise.resolve({ verifyServer: true, token: refresh === true ? 'new' : 'old' });
      },
    };
    const own = new Transport(configuration);
    try {
      await own.json({ method: 'GET', path });
      assert.equal(asked, 2);
      server.token = 'newer';
      assert.equal((await failure(own.json({ method: 'GET', path }))).status, 401);
      assert.equal(asked, 4);
    } finally {
      await own.close();
    }
  });

  it('keeps its connections for the requests that follow', async () => {
    const ports = new Set<number | undefined>();
    server.onRequest = ({ socket }) => ports.add(socket.remotePort);
    for (let n = 0; n < 30; n += 1) await transport.json({ method: 'GET', path });
    assert.ok(ports.size <= 2, `${ports.size} connections`);
  });
});
