/**
 * A cancel request arrives wherever the Service sends it; its session is at one worker of one router. Passes it on: to another worker
 * of this router over a channel in the process, to another router over TLS, both showing a router's certificate. What a router passed
 * on is never passed on again. Bounded: requests come from anybody, so no more than some are under way at once, and the rest are dropped.
 */
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { connect as connectTcp, isIPv6 } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import { BroadcastChannel } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { Metrics } from '../metrics.ts';
import { routerIdentityCheck } from '../tls.ts';
import { cancelRequest } from '../wire/startup.ts';
import { type CancelKey, CancelKeys, type KeyPlace, placeOf, routerMark } from './cancel-keys.ts';
import type { Proxies } from './proxies.ts';

export interface CancelRelayOptions {
  readonly worker: number;
  /** Where other routers reach this one. */
  readonly address: string;
  /** Where the routers of the same Service are, this one among them: `name` (every address that it resolves to) or `name:port`. */
  readonly peers: readonly string[];
  /** Who sends a PROXY protocol header: if this router is one of them, it does to the others as well. */
  readonly proxies: Proxies;
  readonly clientContext: () => SecureContext;
  readonly timeoutMs: number;
  readonly metrics: Metrics;
  readonly log: Logger;
}

interface RouterPlace {
  readonly address: string;
  readonly port: number;
}

const maxUnderWay = 64;
/** Names are resolved no more often than that, however many requests come. */
const peersMs = 1_000;
/** "PROXY UNKNOWN": the sender speaks for itself. */
const ownHeader = 'PROXY UNKNOWN\r\n';

export class CancelRelay {
  readonly keys: CancelKeys;
  readonly #options: CancelRelayOptions;
  #port = 0;
  #router = 0;
  #channel: BroadcastChannel | undefined;
  #underWay = 0;
  #peers: Promise<readonly RouterPlace[]> = Promise.resolve([]);
  #peersAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: CancelRelayOptions) {
    this.#options = options;
    this.keys = new CancelKeys(() => this.#place);
  }

  /** Once it is known where the router listens. */
  start(port: number): void {
    this.#port = port;
    this.#router = routerMark(canonical(this.#options.address), port);
    this.#channel = new BroadcastChannel(`meridian cancel ${this.#options.address} ${port}`);
    this.#channel.unref();
    this.#channel.addEventListener('message', (event) => {
      const { processId, secret } = (event as unknown as { data: { processId: number; secret: Uint8Array } }).data;
      if (placeOf(processId).worker === this.#options.worker)
        this.keys.cancel({ processId, secret: Buffer.from(secret) });
    });
  }

  stop(): void {
    this.#channel?.close();
  }

  get #place(): KeyPlace {
    return { router: this.#router, worker: this.#options.worker };
  }

  /** Resolves when nothing more will be done about it. @param isFromRouter another router passed it on. */
  async take(key: CancelKey, isFromRouter: boolean): Promise<void> {
    const { router, worker } = placeOf(key.processId);
    if (router === this.#router) {
      if (worker !== this.#options.worker) this.#channel?.postMessage(key);
      else if (this.keys.cancel(key)) return;
    }
    if (isFromRouter || this.#options.peers.length === 0) return;
    if (this.#underWay >= maxUnderWay) return this.#options.metrics.add('cancels_dropped_total');
    this.#underWay += 1;
    try {
      const others = (await this.#othersOf(router)).map((other) => this.#pass(other, key));
      await Promise.all(others);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #othersOf(mark: number): Promise<RouterPlace[]> {
    const now = performance.now();
    if (now - this.#peersAtMs > peersMs) {
      this.#peersAtMs = now;
      this.#peers = this.#resolve();
    }
    const own = canonical(this.#options.address);
    return (await this.#peers).filter(
      ({ address, port }) => routerMark(address, port) === mark && !(address === own && port === this.#port),
    );
  }

  async #resolve(): Promise<RouterPlace[]> {
    const found = this.#options.peers.map(async (peer) => {
      const { hostname, port } = new URL(`tcp://${peer}`);
      const addresses = await lookup(hostname.replace(/^\[|\]$/g, ''), { all: true });
      return addresses.map(({ address }) => ({
        address: canonical(address),
        port: port === '' ? this.#port : Number(port),
      }));
    });
    const settled = await Promise.allSettled(found);
    for (const one of settled)
      if (one.status === 'rejected') this.#options.log.warn({ err: one.reason }, 'other routers not found');
    return settled.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
  }

  /** Resolves when the other one has closed the connection, which it does when it has done what it can. */
  async #pass({ address, port }: RouterPlace, { processId, secret }: CancelKey): Promise<void> {
    const { clientContext, timeoutMs, proxies, log, metrics } = this.#options;
    const tcp = connectTcp({ host: address, port, noDelay: true }).on('error', () => undefined);
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      await once(tcp, 'connect', { signal });
      if (proxies.has(this.#options.address)) tcp.write(ownHeader);
      const tls = connectTls({
        socket: tcp,
        secureContext: clientContext(),
        ALPNProtocols: ['postgresql'],
        checkServerIdentity: routerIdentityCheck,
      }).on('error', () => undefined);
      await once(tls, 'secureConnect', { signal });
      metrics.add('cancels_relayed_total');
      tls.resume();
      tls.write(cancelRequest(processId, secret));
      await once(tls, 'close', { signal });
    } catch (error) {
      log.info({ err: error, router: address }, 'cancel not passed on');
    } finally {
      tcp.destroy();
    }
  }
}

/** One spelling for each address. */
const canonical = (address: string): string =>
  isIPv6(address) ? new URL(`tcp://[${address}]`).hostname.slice(1, -1) : address;
