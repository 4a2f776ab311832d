/**
 * Plain HTTP for the kubelet and for Prometheus: `/livez`, `/readyz`, `/metrics`. Nothing secret, nothing that changes
 * anything. Liveness says that the agent answers, and never depends on Postgres: an agent whose Postgres is down, or
 * held down, must not be restarted for it.
 */
import { createServer, type Server } from 'node:http';

export interface ProbesOptions {
  readonly isReady: () => boolean;
  /** Why it isn't, for people. */
  readonly phase: () => string;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
}

export class ProbesServer {
  readonly #server: Server;

  constructor({ isReady, phase, metrics }: ProbesOptions) {
    this.#server = createServer((request, response) => {
      const answer = (status: number, text: string, contentType = 'text/plain; charset=utf-8'): void => {
        response.writeHead(status, { 'content-type': contentType });
        response.end(text);
      };
      switch (request.url) {
        case '/livez':
          return answer(200, 'ok\n');
        case '/readyz':
          return isReady() ? answer(200, 'ok\n') : answer(503, `${phase()}\n`);
        case '/metrics':
          metrics().then(
            ({ text, contentType }) => answer(200, text, contentType),
            (error: unknown) => answer(500, `${error instanceof Error ? error.message : String(error)}\n`),
          );
          return undefined;
        default:
          return answer(404, 'not found\n');
      }
    });
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, () => resolve());
    });
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}
