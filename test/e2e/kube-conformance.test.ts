/** The conformance suite of `kube/` against a real API server: what the fake one promises is what there is. */
import { randomBytes } from 'node:crypto';
import { ensureCluster } from '#cluster/cluster.ts';
import { KubeApi } from '#kube/client.ts';
import { kubeconfigConfiguration } from '#kube/kubeconfig.ts';
import { describeConformance } from '#test/unit/kube/conformance.ts';

const widgetDefinition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.conformance.meridian.db' },
  spec: {
    group: 'conformance.meridian.db',
    scope: 'Namespaced',
    names: { kind: 'Widget', plural: 'widgets', singular: 'widget', listKind: 'WidgetList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: { type: 'object', properties: { size: { type: 'integer' }, colour: { type: 'string' } } },
              status: { type: 'object', properties: { phase: { type: 'string' }, seen: { type: 'integer' } } },
            },
          },
        },
      },
    ],
  },
};

describeConformance('a real API server', async () => {
  const cluster = await ensureCluster();
  const namespace = `kube-conformance-${randomBytes(3).toString('hex')}`;
  await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(widgetDefinition));
  await cluster.kubectl([
    'wait',
    '--for=condition=Established',
    `crd/${widgetDefinition.metadata.name}`,
    '--timeout=120s',
  ]);
  await cluster.kubectl(['create', 'namespace', namespace]);
  const api = new KubeApi(await kubeconfigConfiguration(cluster.kubeconfigPath));
  return {
    api,
    namespace,
    close: async () => {
      await api.close();
      await cluster.kubectl(['delete', 'namespace', namespace, '--wait=false']);
      await cluster.kubectl(['delete', 'crd', widgetDefinition.metadata.name, '--wait=false']);
    },
  };
});
