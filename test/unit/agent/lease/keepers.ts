/** Keepers of several members in one process, each with its own lease thread and certificate, on the loopback interface. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { LeaseKeeper, type LeaseKeeperOptions } from '#agent/lease/keeper.ts';
import type { FollowWish, ServeWish } from '#agent/lease/messages.ts';
import { type Credentials, checkCredentials } from '#agent/tls/credentials.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';

export const place = { namespace: 'test', keyspace: 'shop' };
export const a: MemberIdentity = { name: 'shop-eu-0', incarnation: 'aaaaaaaaaaaaaaaa' };
export const b: MemberIdentity = { name: 'shop-us-0', incarnation: 'bbbbbbbbbbbbbbbb' };
export const c: MemberIdentity = { name: 'shop-ap-0', incarnation: 'cccccccccccccccc' };

interface Said {
  readonly level: string;
  readonly details: object;
  readonly message: string;
}

export class Keepers {
  readonly ca: KeyspaceCa;
  readonly #open: LeaseKeeper[] = [];
  /** What all of them have logged. */
  readonly said: Said[] = [];

  private constructor(ca: KeyspaceCa) {
    this.ca = ca;
  }

  static async make(ca?: KeyspaceCa): Promise<Keepers> {
    return new Keepers(ca ?? (await makeCa(place, new Date())));
  }

  async credentials(member: string, ca = this.ca): Promise<Credentials> {
    const identity = { kind: 'member' as const, member, ...place };
    const pair = await issueCertificate(ca, { identity, dnsNames: [], ipAddresses: [] }, new Date());
    return checkCredentials(this.ca.bundle, pair.certificate, pair.privateKey, member);
  }

  async start(identity: MemberIdentity, options: Partial<LeaseKeeperOptions> = {}): Promise<LeaseKeeper> {
    const log = (level: string) => (details: object, message: string) => {
      this.said.push({ level, details, message });
    };
    const keeper = await LeaseKeeper.start({
      port: 0,
      host: '127.0.0.1',
      place,
      credentials: await this.credentials(identity.name),
      identity,
      handle: undefined,
      longestLeaseMs: 0,
      persistLongestLease: async () => {},
      // The overloads of a logger's methods say more than is used.
      log: { info: log('info'), warn: log('warn'), error: log('error') } as LeaseKeeperOptions['log'],
      ...options,
    });
    this.#open.push(keeper);
    return keeper;
  }

  async close(keeper: LeaseKeeper): Promise<void> {
    this.#open.splice(this.#open.indexOf(keeper), 1);
    await keeper.close();
  }

  async closeAll(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((keeper) => keeper.close()));
    this.said.length = 0;
  }
}

export const serving = (members: readonly MemberIdentity[], wish: Partial<ServeWish> = {}): ServeWish => ({
  shardUid: 'uid',
  epoch: 1,
  generation: 1,
  lease: { members: [...members], required: 1, kubernetes: false },
  peers: members,
  ...wish,
});

export const following = (source: MemberIdentity, port: number, wish: Partial<FollowWish> = {}): FollowWish => ({
  shardUid: 'uid',
  epoch: 1,
  generation: 1,
  source: { ...source, address: '127.0.0.1', port },
  ...wish,
});

/** Resolves to how long it took. Patient: the machine may be busy with other tests. */
export async function until(condition: () => boolean, what: string, timeoutMs = 30_000): Promise<number> {
  const since = performance.now();
  while (!condition()) {
    if (performance.now() - since > timeoutMs) assert.fail(`never: ${what}`);
    await sleep(5);
  }
  return performance.now() - since;
}
