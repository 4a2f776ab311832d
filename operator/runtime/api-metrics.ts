/**
 * Counts requests to the API server by what an RBAC rule would have to allow: verb, group and resource. So it also shows what
 * of the chart's grants is never used.
 */
import { Counter, type Registry } from 'prom-client';
import type { KubeRequest } from '#kube/transport.ts';

export function countApiRequests(registry: Registry): (request: KubeRequest, status: number) => void {
  const requests = new Counter({
    name: 'meridian_api_requests_total',
    help: 'Requests to the API server by verb, group, resource and HTTP status (0: no answer).',
    labelNames: ['verb', 'group', 'resource', 'status'],
    registers: [registry],
  });
  return (request, status) => {
    requests.inc({ ...permissionOf(request), status: String(status) });
  };
}

/**
 * What the API server asks its authorizer for a request.
 * Source: Kubernetes documentation, "Authorization", "Determine the request verb".
 */
export function permissionOf(request: KubeRequest): {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
} {
  const parts = request.path.split('/').filter((part) => part !== '');
  const group = parts[0] === 'apis' ? (parts[1] ?? '') : '';
  const rest = parts.slice(parts[0] === 'apis' ? 3 : 2);
  const [plural = '', name, subresource] = rest[0] === 'namespaces' && rest.length > 2 ? rest.slice(2) : rest;
  const resource = subresource === undefined ? plural : `${plural}/${subresource}`;
  return { verb: verbOf(request, name !== undefined), group, resource };
}

function verbOf({ method, query }: KubeRequest, hasName: boolean): string {
  switch (method) {
    case 'GET':
      if (query?.['watch'] === true) return 'watch';
      return hasName ? 'get' : 'list';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return 'delete';
    default:
      return method satisfies never;
  }
}
