/** Which permission a request needs. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { permissionOf } from '#operator/runtime/api-metrics.ts';

const cases = [
  ['GET', '/api/v1/namespaces/a/pods', {}, 'list  pods'],
  ['GET', '/api/v1/pods', { watch: true }, 'watch  pods'],
  ['GET', '/api/v1/namespaces/a/pods/p', {}, 'get  pods'],
  ['GET', '/api/v1/nodes', {}, 'list  nodes'],
  ['POST', '/apis/events.k8s.io/v1/namespaces/a/events', {}, 'create events.k8s.io events'],
  ['PUT', '/apis/meridian.db/v1alpha1/namespaces/a/shards/s/status', {}, 'update meridian.db shards/status'],
  ['PATCH', '/apis/apps/v1/namespaces/a/statefulsets/s', {}, 'patch apps statefulsets'],
  ['DELETE', '/api/v1/namespaces/a/persistentvolumeclaims/v', {}, 'delete  persistentvolumeclaims'],
] as const;

for (const [method, path, query, expected] of cases)
  it(`${method} ${path} needs the permission "${expected}"`, () => {
    const { verb, group, resource } = permissionOf({ method, path, query });
    assert.equal(`${verb} ${group} ${resource}`, expected);
  });
