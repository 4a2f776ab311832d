/** Probes and metrics on a port of their own, without TLS: nothing here says anything about tenants. */
import { createServer, type Server } from 'node:http';

export interface HttpView {
  readonly isReady: () => boolean;
  readonly metrics: () => string;
}

/** Resolves when it listens. */
export async function serveHttp(address: string, port: number, view: HttpView): Promise<Server> {
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'content-type': type }).end(body);
    };
    switch (request.url?.split('?')[0]) {
      case '/livez':
        return answer(200, 'text/plain', 'ok\n');
      case '/readyz':
        return view.isReady() ? answer(200, 'text/plain', 'ok\n') : answer(503, 'text/plain', 'not ready\n');
      case '/metrics':
        return answer(200, 'text/plain; version=0.0.4', view.metrics());
      default:
        return answer(404, 'text/plain', 'not found\n');
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  return server;
}
