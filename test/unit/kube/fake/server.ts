/**
 * An API server for tests, over real HTTP: any kind, paged lists, watches with bookmarks and 410, status subresource,
 * finalizers, preconditions, server-side apply. Faults on demand. The same conformance suite runs against it and a real one.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Configuration } from '#kube/configuration.ts';
import { type FakeObject, type JsonObject, type LoggedChange, Refusal, Storage } from './storage.ts';

interface Target {
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

type Fault = (request: IncomingMessage, response: ServerResponse) => 'handled' | 'pass';

export class FakeApiServer {
  readonly storage = new Storage();
  /** Every request as `METHOD path?query`. */
  readonly requests: string[] = [];
  bookmarkEveryMs = 50;
  /** Watches stay open and say nothing. */
  isSilent = false;
  /** When set, every other token gets 401. */
  token: string | undefined;
  onRequest: ((request: IncomingMessage) => void) | undefined;
  readonly #watches = new Set<ServerResponse>();
  readonly #faults: Fault[] = [];
  #server: Server | undefined;
  #port = 0;

  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#answer(request, response));
    await new Promise<void>((resolve) => {
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Breaks every connection; `start` opens the same port again, with the same objects. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    server?.closeAllConnections();
    await new Promise<void>((resolve) => {
      if (server === undefined) resolve();
      else server.close(() => resolve());
    });
  }

  get configuration(): Configuration {
    return {
      server: `http://127.0.0.1:${this.#port}`,
      namespace: 'default',
      credentials: () => Promise.resolve({ verifyServer: true }),
    };
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  /** The next `times` requests get this answer. */
  answerNext(status: number, times = 1, headers: Record<string, string> = {}): void {
    for (let n = 0; n < times; n += 1)
      this.#faults.push((_request, response) => {
        response
          .writeHead(status, headers)
          .end(JSON.stringify({ kind: 'Status', code: status, message: 'asked to fail' }));
        return 'handled';
      });
  }

  /** The next `times` requests find their connection reset. */
  resetNext(times = 1): void {
    for (let n = 0; n < times; n += 1)
      this.#faults.push((request) => {
        request.socket.resetAndDestroy();
        return 'handled';
      });
  }

  /** The next request never gets an answer. */
  stallNext(): void {
    this.#faults.push(() => 'handled');
  }

  /** Resets every open watch. */
  resetWatches(): void {
    for (const response of this.#watches) response.socket?.resetAndDestroy();
  }

  /** Ends every open watch in order, as a server does after `timeoutSeconds`. */
  endWatches(): void {
    for (const response of this.#watches) response.end();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake');
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    this.onRequest?.(request);
    const fault = this.#faults.shift();
    if (fault?.(request, response) === 'handled') return;
    try {
      if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`)
        throw new Refusal(401, 'Unauthorized', 'wrong token');
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = chunks.length === 0 ? {} : (JSON.parse(Buffer.concat(chunks).toString('utf8')) as JsonObject);
      const target = targetOf(url.pathname);
      if (url.searchParams.get('watch') === 'true') this.#watch(target, url.searchParams, response);
      else send(response, request.method === 'POST' ? 201 : 200, this.#handle(request, target, url.searchParams, body));
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, 'InternalError', String(error));
      send(response, refusal.status, statusOf(refusal));
    }
  }

  #handle(request: IncomingMessage, target: Target, query: URLSearchParams, body: JsonObject): unknown {
    const { collection, namespace, name, subresource } = target;
    const part = subresource === 'status' ? 'status' : 'object';
    const key = namespace === undefined ? (name ?? '') : `${namespace}/${name ?? ''}`;
    switch (request.method ?? '') {
      case 'GET':
        return name === undefined ? this.#list(target, query) : this.storage.get(collection, key);
      case 'POST':
        return this.storage.create(collection, namespace, body);
      case 'PUT':
        return this.storage.replace(collection, key, body, part);
      case 'PATCH':
        if (request.headers['content-type'] === 'application/merge-patch+json')
          return this.storage.merge(collection, key, body, part);
        if (request.headers['content-type'] !== 'application/apply-patch+yaml')
          throw new Refusal(415, 'UnsupportedMediaType', 'unknown patch');
        return this.storage.apply(collection, key, namespace, body, {
          manager: query.get('fieldManager') ?? '',
          force: query.get('force') === 'true',
          part,
        });
      case 'DELETE':
        return this.storage.delete(collection, key, (body['preconditions'] as JsonObject | undefined) ?? {});
      default:
        throw new Refusal(405, 'MethodNotAllowed', 'unknown method');
    }
  }

  #list(target: Target, query: URLSearchParams): unknown {
    const limit = Number(query.get('limit') ?? '0');
    const [revision, from] = (query.get('continue') ?? `${this.storage.revision}:0`).split(':').map(Number) as [
      number,
      number,
    ];
    if (revision < this.storage.compactedTo) throw new Refusal(410, 'Expired', 'the continue token is too old');
    const matching = this.storage
      .list(target.collection, target.namespace)
      .filter((object) => isSelected(object, query));
    const items = limit === 0 ? matching : matching.slice(from, from + limit);
    const next = from + items.length;
    return {
      kind: 'List',
      metadata: {
        resourceVersion: String(revision),
        ...(next < matching.length ? { continue: `${revision}:${next}` } : {}),
      },
      // As the real one: without apiVersion and kind.
      items: items.map(({ apiVersion: _version, kind: _kind, ...item }) => item),
    };
  }

  #watch(target: Target, query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get('resourceVersion') ?? '0');
    response.writeHead(200, { 'content-type': 'application/json' });
    const write = (type: string, object: unknown): void => void response.write(`${JSON.stringify({ type, object })}\n`);
    if (from < this.storage.compactedTo) {
      write('ERROR', statusOf(new Refusal(410, 'Expired', 'too old resource version')));
      response.end();
      return;
    }
    response.flushHeaders();
    const tell = (change: LoggedChange): void => {
      if (this.isSilent || change.collection !== target.collection) return;
      if (target.namespace !== undefined && change.object.metadata.namespace !== target.namespace) return;
      if (isSelected(change.object, query)) write(change.type, change.object);
    };
    for (const change of this.storage.log) if (change.revision > from) tell(change);
    const stop = this.storage.onChange(tell);
    const bookmarks = setInterval(() => {
      if (this.isSilent) return;
      write('BOOKMARK', { metadata: { resourceVersion: String(this.storage.revision) } });
    }, this.bookmarkEveryMs);
    const seconds = Number(query.get('timeoutSeconds') ?? '300');
    const end = setTimeout(() => response.end(), seconds * 1000);
    this.#watches.add(response);
    response.on('close', () => {
      stop();
      clearInterval(bookmarks);
      clearTimeout(end);
      this.#watches.delete(response);
    });
  }
}

function targetOf(path: string): Target {
  const parts = path.split('/').filter((part) => part !== '');
  const groupVersion = parts[0] === 'api' ? parts.splice(0, 2).slice(1) : parts.splice(0, 3).slice(1);
  const namespace = parts[0] === 'namespaces' && parts.length > 2 ? parts.splice(0, 2)[1] : undefined;
  const [plural, name, subresource] = parts;
  if (plural === undefined) throw new Refusal(404, 'NotFound', `no such path ${path}`);
  return { collection: `${groupVersion.join('/')}/${plural}`, namespace, name, subresource };
}

function isSelected(object: FakeObject, query: URLSearchParams): boolean {
  const terms = (text: string | null): string[][] =>
    (text ?? '')
      .split(',')
      .filter((term) => term !== '')
      .map((term) => term.split('='));
  return (
    terms(query.get('labelSelector')).every(([name, value]) => object.metadata.labels?.[name ?? ''] === value) &&
    terms(query.get('fieldSelector')).every(
      ([field, value]) => field !== 'metadata.name' || object.metadata.name === value,
    )
  );
}

const statusOf = ({ status, reason, message }: Refusal): object => ({
  kind: 'Status',
  apiVersion: 'v1',
  status: 'Failure',
  code: status,
  reason,
  message,
});

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
