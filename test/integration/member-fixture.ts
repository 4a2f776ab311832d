/**
 * Runs members of a shard (our own image: agent and Postgres) as containers on one Docker network, with certificates made
 * by the operator's own code and a file in the place of the API server. What the operator does in a cluster (orders in
 * the right sequence, the record of authority, takeovers) is done here by the tests, or by `ShardFixture.bringUp`.
 * One member's container is `member-container.ts`.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Network, type StartedNetwork } from 'testcontainers';
import { Agent } from 'undici';
import type { MemberIdentity, PeerIdentity } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { buildImages } from '../../images/build.ts';
import { MemberFixture } from './member-container.ts';

export type { MemberFixture } from './member-container.ts';

// No helper container that would have to be pulled; every fixture stops what it started.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

/** What the members of one keyspace share: a network, an authority, a folder for mounted files. */
export class KeyspaceFixture {
  readonly keyspace: string;
  readonly namespace = 'test';
  readonly network: StartedNetwork;
  readonly ca: KeyspaceCa;
  readonly folder: string;
  readonly image: string;
  readonly #shards: ShardFixture[] = [];

  private constructor(keyspace: string, network: StartedNetwork, ca: KeyspaceCa, folder: string, image: string) {
    this.keyspace = keyspace;
    this.network = network;
    this.ca = ca;
    this.folder = folder;
    this.image = image;
  }

  static async start(keyspace = 'shop'): Promise<KeyspaceFixture> {
    const { postgres } = await buildImages({ only: 'postgres' });
    const ca = await makeCa({ namespace: 'test', keyspace }, new Date());
    const folder = await mkdtemp(join(tmpdir(), 'meridian-members-'));
    return new KeyspaceFixture(keyspace, await new Network().start(), ca, folder, postgres);
  }

  issue(identity: PeerIdentity, dnsNames: readonly string[] = [], ca = this.ca): Promise<KeyPairPem> {
    return issueCertificate(ca, { identity, dnsNames, ipAddresses: [] }, new Date());
  }

  identity(kind: 'operator' | 'router'): PeerIdentity {
    return { kind, namespace: this.namespace, keyspace: this.keyspace };
  }

  memberIdentity(member: string): PeerIdentity {
    return { kind: 'member', namespace: this.namespace, keyspace: this.keyspace, member };
  }

  /** A client of the agents' API that shows this certificate. */
  async dispatcher(identity: PeerIdentity, ca = this.ca): Promise<Agent> {
    const pair = await this.issue(identity, [], ca);
    return new Agent({
      connections: 2,
      connect: {
        cert: pair.certificate,
        key: pair.privateKey,
        ca: this.ca.bundle,
        checkServerIdentity: () => undefined,
      },
    });
  }

  async shard(options: ShardOptions): Promise<ShardFixture> {
    const shard = await ShardFixture.prepare(this, options);
    this.#shards.push(shard);
    await Promise.all(shard.members.map((member) => member.start()));
    return shard;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard.stop()));
    await this.network.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

export interface ShardOptions {
  readonly name?: string;
  readonly database?: string;
  /** Names of the members and their regions; the first becomes the primary. */
  readonly members: readonly { readonly name: string; readonly region: string }[];
  /** k; 0 by default. */
  readonly acknowledgements?: number;
  readonly parameters?: Readonly<Record<string, string>>;
}

export type OrdersWish = Partial<Omit<Orders, 'member' | 'role'>> & Pick<Orders, 'role'>;

export class ShardFixture {
  readonly keyspace: KeyspaceFixture;
  readonly name: string;
  readonly uid: string;
  readonly database: string;
  readonly acknowledgements: number;
  readonly parameters: Readonly<Record<string, string>>;
  readonly members: readonly MemberFixture[];
  readonly folder: string;
  readonly operator: Agent;
  /** Of the authority, as recorded. */
  epoch = 1;
  timeline = 1;
  history: Orders['history'] = [];
  #primary: MemberFixture | undefined;
  #sequence = 0;
  generation = 0;
  /** As recorded; a member asks for it before it throws its data away. */
  #membership: readonly MemberIdentity[] | undefined;
  #authority: object | undefined;

  private constructor(
    keyspace: KeyspaceFixture,
    options: ShardOptions,
    folder: string,
    members: MemberFixture[],
    operator: Agent,
  ) {
    this.keyspace = keyspace;
    this.name = options.name ?? 'main';
    this.uid = `uid-of-${this.name}`;
    this.database = options.database ?? keyspace.keyspace;
    this.acknowledgements = options.acknowledgements ?? 0;
    this.parameters = options.parameters ?? {};
    this.members = members;
    this.folder = folder;
    this.operator = operator;
  }

  static async prepare(keyspace: KeyspaceFixture, options: ShardOptions): Promise<ShardFixture> {
    const folder = join(keyspace.folder, options.name ?? 'main');
    await mkdir(join(folder, 'authority'), { recursive: true, mode: 0o755 });
    const operator = await keyspace.dispatcher(keyspace.identity('operator'));
    const members: MemberFixture[] = [];
    const shard = new ShardFixture(keyspace, options, folder, members, operator);
    for (const { name, region } of options.members) members.push(new MemberFixture(shard, name, region));
    return shard;
  }

  member(name: string): MemberFixture {
    const found = this.members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`no member ${name}`);
    return found;
  }

  /** The first at first; then whom the last takeover named. */
  get primary(): MemberFixture {
    const primary = this.#primary ?? this.members[0];
    if (primary === undefined) throw new Error('a shard without members');
    return primary;
  }

  get followers(): readonly MemberFixture[] {
    return this.members.filter((member) => member !== this.primary);
  }

  /** Writes the record that the start gate reads. */
  async recordAuthority(authority: object | undefined): Promise<void> {
    this.#authority = authority;
    await this.#writeRecord();
  }

  async recordMembership(members: readonly MemberIdentity[]): Promise<void> {
    this.#membership = members;
    await this.#writeRecord();
  }

  async #writeRecord(): Promise<void> {
    const status = {
      ...(this.#authority === undefined ? {} : { authority: this.#authority }),
      ...(this.#membership === undefined
        ? {}
        : { membership: { generation: this.generation, members: this.#membership } }),
    };
    const shard = { metadata: { uid: this.uid }, status };
    await writeFile(join(this.folder, 'authority', 'shard.json'), JSON.stringify(shard), { mode: 0o644 });
  }

  async authorise(member: MemberFixture, epoch = 1, state = 'Active'): Promise<void> {
    const { name, incarnation } = await member.identity();
    await this.recordAuthority({
      epoch,
      timeline: this.timeline,
      member: name,
      incarnation,
      region: member.region,
      state,
    });
  }

  /** Complete orders for one member, numbered; `wish` wins over what is filled in. */
  async orders(member: MemberFixture, wish: OrdersWish): Promise<Orders> {
    const others = await Promise.all(this.members.filter((other) => other !== member).map((other) => other.identity()));
    this.#sequence += 1;
    return {
      shard: {
        namespace: this.keyspace.namespace,
        name: this.name,
        uid: this.uid,
        keyspace: this.keyspace.keyspace,
        database: this.database,
      },
      member: await member.identity(),
      epoch: this.epoch,
      leaderTerm: 1,
      sequence: this.#sequence,
      generation: this.generation,
      synchronous: { acknowledgements: this.acknowledgements, members: [] },
      slots: others,
      parameters: { ...this.parameters },
      restartNonce: '',
      lease: { members: [], required: 0, kubernetes: false },
      timeline: this.timeline,
      history: this.history,
      mayRewind: false,
      takeover: false,
      ...wish,
    };
  }

  async order(member: MemberFixture, wish: OrdersWish): Promise<AgentStatus> {
    const { status, body } = await member.put(await this.orders(member, wish));
    if (status !== 200) throw new Error(`${member.name} refused: ${status} ${JSON.stringify(body)}`);
    return body as AgentStatus;
  }

  async initialise(): Promise<void> {
    const { primary } = this;
    await this.authorise(primary, 1, 'Initialising');
    await this.order(primary, { role: 'Initialise', synchronous: await this.#synchronous([]) });
    // With acknowledgers to come it stays behind its opening gate until they have come.
    const reached = this.acknowledgements === 0 ? 'Primary' : 'Opening';
    await primary.until(
      `up as primary (${reached})`,
      ({ phase, postgres }) => phase === reached && postgres?.inRecovery === false,
    );
    const { name } = await primary.identity();
    this.history = [{ epoch: 1, timeline: 1, member: name, forkLsn: '0/0' }];
    await this.authorise(primary);
  }

  async follow(member: MemberFixture, wish: Partial<OrdersWish> = {}): Promise<void> {
    const source = {
      ...(await this.primary.identity()),
      address: await this.primary.address(),
      tunnelPort: ports.tunnel,
    };
    await this.order(member, { role: 'Follower', source, synchronous: await this.#synchronous([]), ...wish });
  }

  /** By whose grants the primary stands: as many as acknowledge. */
  async lease(members: readonly MemberFixture[]): Promise<Orders['lease']> {
    const required = Math.min(this.acknowledgements, members.length);
    return { members: await Promise.all(members.map((member) => member.identity())), required, kubernetes: false };
  }

  /** What a decision writes: this member, at this epoch, on the next timeline, which leaves the last one there. */
  async decide(member: MemberFixture, epoch: number, forkLsn: string): Promise<void> {
    this.epoch = epoch;
    this.timeline += 1;
    this.generation += 1;
    this.history = [...this.history, { epoch, timeline: this.timeline, member: member.name, forkLsn }];
    this.#primary = member;
    await this.authorise(member, epoch);
  }

  /** Orders of whoever ran the takeover: to the chosen one first, then to those who are to follow it. */
  async takeOver(followers: readonly MemberFixture[] = this.followers): Promise<void> {
    const synchronous = await this.#synchronous(this.followers);
    const lease = await this.lease(this.followers);
    await this.order(this.primary, { role: 'Primary', takeover: true, synchronous, lease });
    await Promise.all(followers.map((member) => this.follow(member, { takeover: true, synchronous })));
  }

  /** First start as the operator does it: primary, followers, then the list of those that acknowledge. */
  async bringUp(): Promise<void> {
    await this.initialise();
    for (const follower of this.followers) await this.follow(follower);
    await Promise.all(
      this.followers.map((follower) => follower.until('caught up', (status) => status.upstream?.caughtUp === true)),
    );
    await this.setSynchronous(this.followers);
  }

  async setSynchronous(members: readonly MemberFixture[]): Promise<void> {
    this.generation += 1;
    const lease = await this.lease(members);
    await this.order(this.primary, { role: 'Primary', synchronous: await this.#synchronous(members), lease });
    await this.primary.until(
      'orders applied',
      ({ orders, postgres }) => orders?.applied === true && postgres?.open === true,
    );
  }

  async #synchronous(members: readonly MemberFixture[]): Promise<Orders['synchronous']> {
    const acknowledgements = this.acknowledgements;
    if (acknowledgements === 0) return { acknowledgements, members: [] };
    return { acknowledgements, members: await Promise.all(members.map((member) => member.identity())) };
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.remove()));
    await this.operator.destroy();
  }
}
