import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { OwnerReference } from '#kube/objects.ts';
import { routerAccount } from '#operator/resources/router/account.ts';
import { routerDeployment } from '#operator/resources/router/deployment.ts';
import { routerNetworkPolicy } from '#operator/resources/router/network-policy.ts';
import { routerDisruptionBudget, routerPeersService, routerService } from '#operator/resources/router/service.ts';
import type { RouterWish } from '#operator/resources/router/wish.ts';

const owner: OwnerReference = {
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'Keyspace',
  name: 'shop',
  uid: 'f0',
  controller: true,
  blockOwnerDeletion: true,
};

const wish = (over: Partial<RouterWish> = {}): RouterWish => ({
  namespace: 'prod',
  keyspace: 'shop',
  region: 'eu',
  owner,
  nodeSelector: { 'topology.kubernetes.io/region': 'eu' },
  image: 'meridian/programs:abc',
  replicas: 2,
  resources: {},
  workers: 1,
  preparesSimpleQueries: true,
  serviceType: 'ClusterIP',
  nodePort: undefined,
  proxyProtocolFrom: [],
  ...over,
});

describe("one region's router", () => {
  const all = [
    routerDeployment(wish()),
    routerService(wish()),
    routerDisruptionBudget(wish()),
    routerNetworkPolicy(wish()),
    routerPeersService(wish()),
    ...Object.values(routerAccount(wish())),
  ];

  for (const object of all) {
    test(`its ${object.kind} belongs to the Keyspace and carries its labels`, () => {
      assert.deepEqual(object.metadata.ownerReferences, [owner]);
      assert.equal(object.metadata.namespace, 'prod');
      assert.equal(object.metadata.labels?.['meridian.db/keyspace'], 'shop');
      assert.equal(object.metadata.labels?.['app.kubernetes.io/component'], 'router');
      assert.equal(object.metadata.labels?.['app.kubernetes.io/managed-by'], 'meridian');
    });
  }

  test('Deployment, Service and budget select the same pods, and the pods carry those labels', () => {
    const deployment = routerDeployment(wish());
    const selector = deployment.spec?.selector.matchLabels;
    assert.ok(selector !== undefined);
    assert.deepEqual(routerService(wish()).spec?.selector, selector);
    assert.deepEqual(routerDisruptionBudget(wish()).spec?.selector?.matchLabels, selector);
    const podLabels = deployment.spec?.template.metadata?.labels ?? {};
    for (const [key, value] of Object.entries(selector)) assert.equal(podLabels[key], value);
  });

  test('the selector tells regions and keyspaces apart', () => {
    const selectors = [wish(), wish({ region: 'us' }), wish({ keyspace: 'crm' })].map((each) =>
      JSON.stringify(routerDeployment(each).spec?.selector.matchLabels),
    );
    assert.equal(new Set(selectors).size, 3);
  });

  test('a roll-out never has fewer routers than wished', () => {
    assert.deepEqual(routerDeployment(wish()).spec?.strategy, {
      type: 'RollingUpdate',
      rollingUpdate: { maxUnavailable: 0, maxSurge: 1 },
    });
  });

  test('the pod may write nowhere but /tmp, gains no privileges and is no root', () => {
    const pod = routerDeployment(wish()).spec?.template.spec;
    const container = pod?.containers[0];
    assert.equal(pod?.securityContext?.runAsNonRoot, true);
    assert.equal(container?.securityContext?.readOnlyRootFilesystem, true);
    assert.equal(container?.securityContext?.allowPrivilegeEscalation, false);
    assert.deepEqual(container?.securityContext?.capabilities, { drop: ['ALL'] });
    assert.deepEqual(
      container?.volumeMounts?.filter((mount) => mount.readOnly !== true).map((mount) => mount.mountPath),
      ['/tmp'],
    );
  });

  test('draining ends before the pod is killed', () => {
    const pod = routerDeployment(wish()).spec?.template.spec;
    const sleepSeconds = pod?.containers[0]?.lifecycle?.preStop?.sleep?.seconds ?? 0;
    assert.ok((pod?.terminationGracePeriodSeconds ?? 0) >= sleepSeconds + 30);
  });

  test('a node port is asked for only where the Service has node ports', () => {
    const portOf = (over: Partial<RouterWish>) => routerService(wish(over)).spec?.ports?.[0]?.nodePort;
    assert.equal(portOf({ nodePort: 30432 }), undefined);
    assert.equal(portOf({ serviceType: 'NodePort', nodePort: 30432 }), 30432);
    assert.equal(portOf({ serviceType: 'LoadBalancer' }), undefined);
  });

  test('routers find each other, those that drain too, by a Service that is no region’s', () => {
    const { metadata, spec } = routerPeersService(wish());
    assert.equal(metadata.labels?.['meridian.db/region'], undefined);
    assert.deepEqual([spec?.clusterIP, spec?.publishNotReadyAddresses], ['None', true]);
    for (const region of ['eu', 'us']) {
      const pod = routerDeployment(wish({ region })).spec?.template;
      for (const [key, value] of Object.entries(spec?.selector ?? {}))
        assert.equal(pod?.metadata?.labels?.[key], value);
      const peers = pod?.spec?.containers[0]?.env?.find(({ name }) => name === 'MERIDIAN_PEERS');
      assert.equal(peers?.value, `${metadata.name}.prod.svc`);
    }
  });

  test('load balancers are trusted only where they are named', () => {
    const trusted = (proxyProtocolFrom: string[]) =>
      routerDeployment(wish({ proxyProtocolFrom })).spec?.template.spec?.containers[0]?.env?.find(
        ({ name }) => name === 'MERIDIAN_PROXY_FROM',
      )?.value;
    assert.equal(trusted([]), undefined);
    assert.equal(trusted(['10.0.0.0/8', '::1']), '10.0.0.0/8,::1');
  });

  test('its program is told what differs from its defaults, and nothing else', () => {
    const told = (over: Partial<RouterWish>) =>
      Object.fromEntries(
        (routerDeployment(wish(over)).spec?.template.spec?.containers[0]?.env ?? [])
          .filter(({ name }) => ['MERIDIAN_WORKERS', 'MERIDIAN_PARAMETERS'].includes(name))
          .map(({ name, value }) => [name, value]),
      );
    assert.deepEqual(told({}), {});
    assert.deepEqual(told({ workers: 4, preparesSimpleQueries: false }), {
      MERIDIAN_WORKERS: '4',
      MERIDIAN_PARAMETERS: 'off',
    });
  });

  test('a single router does not block the drain of its node', () => {
    const budget = routerDisruptionBudget(wish({ replicas: 1 })).spec;
    assert.equal(budget?.maxUnavailable, 1);
    assert.equal(budget?.minAvailable, undefined);
  });

  test('may read Meridian objects and nothing else', () => {
    const { role } = routerAccount(wish());
    assert.deepEqual([...new Set(role.rules?.flatMap((rule) => rule.apiGroups ?? []))], ['meridian.db']);
    assert.deepEqual([...new Set(role.rules?.flatMap((rule) => rule.verbs))], ['get', 'list', 'watch']);
  });

  test('its policy names peers in both directions: no rule is open by a lost field', () => {
    const spec = routerNetworkPolicy(wish()).spec;
    assert.deepEqual(spec?.policyTypes, ['Ingress', 'Egress']);
    for (const rule of [...(spec?.ingress ?? []), ...(spec?.egress ?? [])]) assert.ok((rule.ports?.length ?? 0) > 0);
    assert.deepEqual(spec?.egress?.[0]?.to?.[0]?.podSelector?.matchLabels, {
      'app.kubernetes.io/component': 'member',
      'meridian.db/keyspace': 'shop',
    });
  });
});
