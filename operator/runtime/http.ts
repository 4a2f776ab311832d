/**
 * Plain HTTP for kubelet and Prometheus: `/livez`, `/readyz`, `/metrics`. Says nothing that isn't for everybody.
 * `/livez` answers as long as the event loop turns: an operator that can't reach the API server isn't helped by a restart.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';

export interface ProbeOptions {
  /** 0: any free one. */
  readonly port: number;
  readonly metrics: Registry;
  /** Why it isn't ready; empty when it is. */
  readonly notReady: () => string;
}

export interface ProbeServer {
  readonly port: number;
  close(): Promise<void>;
}

export async function serveProbes({ port, metrics, notReady }: ProbeOptions): Promise<ProbeServer> {
  const server = createServer((request, response) => {
    const answer = (status: number, text: string, type = 'text/plain'): void => {
      response.writeHead(status, { 'content-type': type }).end(text);
    };
    switch (request.url ?? '') {
      case '/livez':
        return answer(200, 'ok\n');
      case '/readyz': {
        const reason = notReady();
        return reason === '' ? answer(200, 'ok\n') : answer(503, `${reason}\n`);
      }
      case '/metrics':
        return void metrics.metrics().then(
          (text) => answer(200, text, metrics.contentType),
          (error: unknown) => answer(500, `${String(error)}\n`),
        );
      default:
        return answer(404, 'not found\n');
    }
  });
  server.requestTimeout = 5_000;
  server.maxConnections = 100;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: () => closeServer(server) };
}

async function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
}
