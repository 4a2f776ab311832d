/** The conformance suite against the fake API server, so that other tests may rely on it. */
import { KubeApi } from '#kube/client.ts';
import { describeConformance } from './conformance.ts';
import { FakeApiServer } from './fake/server.ts';

describeConformance('the fake API server', async () => {
  const server = new FakeApiServer();
  await server.start();
  const api = new KubeApi(server.configuration);
  return {
    api,
    namespace: 'conformance',
    close: async () => {
      await api.close();
      await server.stop();
    },
  };
});
