/**
 * The agent's functions for rejoining, called one at a time from outside: runs in the container of `rejoin-lab.ts`, where the
 * programs and the data directories are. One JSON object as argument; the answer, or the error, is one line of JSON.
 */
import { environmentOfPostgres } from '#agent/configuration.ts';
import { DataDirectory } from '#agent/postgres/data-directory.ts';
import { LocalSession } from '#agent/postgres/session.ts';
import { keepAnchor } from '#agent/postgres/slots.ts';
import { assessRejoin } from '#agent/rejoin/assess.ts';
import { positionOnDisk } from '#agent/rejoin/position.ts';
import { awaitReceiversGone } from '#agent/rejoin/receivers.ts';
import { rewind } from '#agent/rejoin/rewind.ts';
import { isMisled, prepareTimeline, settleTimelines } from '#agent/rejoin/timelines.ts';
import type { Orders } from '#core/protocol/orders.ts';

interface Call {
  readonly call: 'position' | 'settle' | 'prepare' | 'assess' | 'rewind' | 'receiversGone' | 'anchor' | 'misled';
  readonly pgdata: string;
  readonly replayed?: string;
  readonly timeline?: number;
  readonly wanted?: number;
  readonly history?: Orders['history'];
  /** Of the source's socket. */
  readonly sockets?: string;
  readonly port?: number;
  readonly maxKeptBytes?: number;
}

async function answer(wish: Call): Promise<unknown> {
  const data = new DataDirectory(wish.pgdata, environmentOfPostgres(process.env));
  const paths = {
    rejoin: `${wish.pgdata}.rejoin.json`,
    kept: `${wish.pgdata}.kept`,
    upstreamSockets: wish.sockets ?? '',
  };
  const orders = {
    history: wish.history ?? [],
    timeline: wish.wanted ?? 0,
    epoch: wish.wanted ?? 1,
    mayRewind: true,
    member: { name: 'a-0', incarnation: 'aaaaaaaaaaaaaaaa' },
  };
  switch (wish.call) {
    case 'position':
      return positionOnDisk(data, paths.rejoin, wish.replayed === undefined ? {} : { replayed: wish.replayed });
    case 'settle':
      return settleTimelines(data);
    case 'prepare':
      return prepareTimeline(data, { timeline: wish.timeline ?? 0, wanted: wish.wanted ?? 0 });
    case 'assess':
      return assessRejoin(data, orders, paths.rejoin);
    case 'misled':
      return isMisled(data, wish.timeline ?? 0, orders);
    case 'anchor': {
      const session = new LocalSession(wish.sockets ?? '', wish.port ?? 0);
      await keepAnchor(session);
      await session.close();
      return null;
    }
    case 'receiversGone':
      return awaitReceiversGone(2_000);
    case 'rewind':
      return rewind({
        data,
        orders,
        paths,
        port: wish.port ?? 0,
        signal: new AbortController().signal,
        onDiverged: () => {},
        log: { info: () => {}, warn: () => {} },
        ...(wish.maxKeptBytes === undefined ? {} : { maxKeptBytes: wish.maxKeptBytes }),
      });
  }
}

const startedAt = performance.now();
try {
  const result = await answer(JSON.parse(process.argv[2] ?? '') as Call);
  console.log(JSON.stringify({ result, tookMs: Math.round(performance.now() - startedAt) }));
} catch (error) {
  const { name, message } = error as Error;
  console.log(JSON.stringify({ error: `${name}: ${message}` }));
}
