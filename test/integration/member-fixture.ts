/**
 * Runs members of a shard (our own image: agent and Postgres) as containers on one Docker network, with certificates made
 * by the operator's own code and a file in the place of the API server. What the operator does in a cluster (orders in
 * the right sequence, the record of authority) is done here by the tests, or by `ShardFixture.bringUp`.
 * The containers run as they would in a pod: no root, read-only root file system, no capabilities.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { GenericContainer, Network, type StartedNetwork, type StartedTestContainer } from 'testcontainers';
import { Agent } from 'undici';
import { run } from '#cluster/process.ts';
import type { MemberIdentity, PeerIdentity } from '#core/identity.ts';
import { memberPaths, ports } from '#core/names.ts';
import type { AuthorityAnswer, AuthorityQuestion, Fenced, FenceRefusal } from '#core/protocol/authority.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { agentRole, operatorRole } from '#core/roles.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { buildImages } from '../../images/build.ts';

// No helper container that would have to be pulled; every fixture stops what it started.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

const AUTHORITY_FOLDER = '/etc/meridian/authority';
const WAIT_MS = 60_000;
const POLL_MS = 100;
const REQUEST_TIMEOUT_MS = 5_000;

class MemberContainer extends GenericContainer {
  restricted(): this {
    this.hostConfig.ReadonlyRootfs = true;
    this.hostConfig.CapDrop = ['ALL'];
    this.hostConfig.SecurityOpt = ['no-new-privileges'];
    this.hostConfig.ShmSize = 128 * 1024 * 1024;
    // Outlives a kill and a start of the container, like the volume of a pod; goes when the container is removed.
    this.hostConfig.Mounts = [{ Type: 'volume', Target: memberPaths.volume, Source: '' }];
    return this;
  }

  /** In the place of a volume of its own: the one that this container has. */
  onVolumeOf(containerId: string): this {
    this.hostConfig.Mounts = [];
    this.hostConfig.VolumesFrom = [containerId];
    return this;
  }
}

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

export class MemberFixture {
  readonly shard: ShardFixture;
  readonly name: string;
  readonly region: string;
  readonly tlsFolder: string;
  #container: StartedTestContainer | undefined;
  #identity: MemberIdentity | undefined;
  #address = '';

  constructor(shard: ShardFixture, name: string, region: string) {
    this.shard = shard;
    this.name = name;
    this.region = region;
    this.tlsFolder = join(shard.folder, `tls-${name}`);
  }

  async start(): Promise<void> {
    await mkdir(this.tlsFolder, { recursive: true, mode: 0o755 });
    await this.renewCertificate();
    this.#container = await this.#prepared().start();
    await this.untilAnswers();
  }

  /**
   * A second container on this member's volume, as when a pod is deleted by force and its containers still run. From here
   * on this fixture is the second one. Gives back the first, which is the caller's to end; nothing is waited for.
   */
  async startSecond(): Promise<StartedTestContainer> {
    const first = this.container;
    this.#container = await this.#prepared().onVolumeOf(first.getId()).start();
    this.#address = '';
    return first;
  }

  #prepared(): MemberContainer {
    const { keyspace, folder, name: shardName } = this.shard;
    return new MemberContainer(keyspace.image)
      .restricted()
      .withNetwork(keyspace.network)
      .withNetworkAliases(this.name)
      .withEnvironment({
        POD_NAME: this.name,
        POD_NAMESPACE: keyspace.namespace,
        MERIDIAN_KEYSPACE: keyspace.keyspace,
        MERIDIAN_SHARD: shardName,
        MERIDIAN_REGION: this.region,
        MERIDIAN_REGIONAL_REPLICA: `${shardName}-${this.region}`,
        MERIDIAN_AUTHORITY_FILE: `${AUTHORITY_FOLDER}/shard.json`,
      })
      .withTmpFs({ '/run/meridian': 'rw,uid=10001,gid=10001,mode=0700', '/tmp': 'rw' })
      .withBindMounts([
        { source: this.tlsFolder, target: memberPaths.tls, mode: 'ro' },
        { source: join(folder, 'authority'), target: AUTHORITY_FOLDER, mode: 'ro' },
      ]);
  }

  get container(): StartedTestContainer {
    if (this.#container === undefined) throw new Error(`${this.name} is not started`);
    return this.#container;
  }

  /** May change when a stopped container is started again. */
  async address(): Promise<string> {
    if (this.#address === '') {
      const form = `{{(index .NetworkSettings.Networks "${this.shard.keyspace.network.getName()}").IPAddress}}`;
      this.#address = (await run(['docker', 'inspect', '--format', form, this.container.getId()])).trim();
    }
    return this.#address;
  }

  /** Remembered: use `forgetIdentity` where it may have changed. */
  async identity(): Promise<MemberIdentity> {
    this.#identity ??= (await this.status()).member;
    return this.#identity;
  }

  forgetIdentity(): void {
    this.#identity = undefined;
  }

  /** A new certificate in the mounted folder, as the kubelet would bring it. */
  async renewCertificate(): Promise<KeyPairPem> {
    const { keyspace } = this.shard;
    const pair = await keyspace.issue(keyspace.memberIdentity(this.name), [this.name]);
    await writeFile(join(this.tlsFolder, 'ca.crt'), keyspace.ca.bundle, { mode: 0o644 });
    await writeFile(join(this.tlsFolder, `${this.name}.key`), pair.privateKey, { mode: 0o644 });
    await writeFile(join(this.tlsFolder, `${this.name}.crt`), pair.certificate, { mode: 0o644 });
    return pair;
  }

  async request(
    method: 'GET' | 'PUT' | 'POST',
    path: string,
    body?: unknown,
    dispatcher: Agent = this.shard.operator,
  ): Promise<{ status: number; body: unknown }> {
    const answer = await dispatcher.request({
      origin: `https://${await this.address()}:${ports.agentApi}`,
      method,
      path,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    return { status: answer.statusCode, body: await answer.body.json() };
  }

  async status(): Promise<AgentStatus> {
    const { status, body } = await this.request('GET', '/v1/status');
    if (status !== 200) throw new Error(`${this.name}: ${status} ${JSON.stringify(body)}`);
    return body as AgentStatus;
  }

  put(orders: unknown, dispatcher?: Agent): Promise<{ status: number; body: unknown }> {
    return this.request('PUT', '/v1/orders', orders, dispatcher);
  }

  async authority(question: AuthorityQuestion = {}, dispatcher?: Agent): Promise<AuthorityAnswer> {
    const { status, body } = await this.request('POST', '/v1/authority', question, dispatcher);
    if (status !== 200) throw new Error(`${this.name}: ${status} ${JSON.stringify(body)}`);
    return body as AuthorityAnswer;
  }

  async askFence(epoch: number, handover = false): Promise<{ status: number; body: Fenced | FenceRefusal }> {
    const question = { shardUid: this.shard.uid, member: await this.identity(), epoch, by: 'test', handover };
    const { status, body } = await this.request('POST', '/v1/fence', question);
    return { status, body: body as Fenced | FenceRefusal };
  }

  /** Until it isn't busy any more. */
  async fence(epoch: number, handover = false): Promise<Fenced> {
    const giveUpAt = Date.now() + WAIT_MS;
    for (;;) {
      const { status, body } = await this.askFence(epoch, handover);
      if (status === 200) return body as Fenced;
      if ((body as FenceRefusal).code !== 'Busy' || Date.now() > giveUpAt) {
        throw new Error(`${this.name} is not fenced: ${JSON.stringify(body)}\n${await this.log()}`);
      }
    }
  }

  async untilAnswers(): Promise<void> {
    await this.until('an answer', () => true);
  }

  /** Asks until the status is as wanted; the error shows the last one and the end of the log. */
  async until(what: string, isWanted: (status: AgentStatus) => boolean, timeoutMs = WAIT_MS): Promise<AgentStatus> {
    const giveUpAt = Date.now() + timeoutMs;
    for (;;) {
      let last: unknown;
      try {
        const status = await this.status();
        if (isWanted(status)) return status;
        last = status;
      } catch (error) {
        last = error;
      }
      if (Date.now() > giveUpAt) {
        throw new Error(
          `${this.name} does not come to: ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}\n${await this.log()}`,
        );
      }
      await sleep(POLL_MS);
    }
  }

  async log(lines = 40): Promise<string> {
    return run(['sh', '-c', 'docker logs --tail "$2" "$1" 2>&1', 'sh', this.container.getId(), String(lines)]);
  }

  /** A superuser's connection over the network, with the operator's certificate. */
  async connect(options: { readonly user?: string; readonly database?: string } = {}): Promise<pg.Client> {
    const { keyspace, database } = this.shard;
    const pair = await keyspace.issue(keyspace.identity('operator'));
    const client = new pg.Client({
      host: await this.address(),
      port: ports.postgres,
      user: options.user ?? operatorRole,
      database: options.database ?? database,
      ssl: {
        ca: keyspace.ca.bundle,
        cert: pair.certificate,
        key: pair.privateKey,
        checkServerIdentity: () => undefined,
      },
    });
    // An end of the server while nobody waits is the test's business, not an uncaught error.
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  async exec(...command: string[]): Promise<{ exitCode: number; output: string }> {
    return this.container.exec(command);
  }

  /** One value, asked as the agent's superuser over the local socket: past the access file. */
  async local(statement: string): Promise<string> {
    const place = ['-h', memberPaths.postgresSockets, '-U', agentRole, '-d', this.shard.database];
    const { exitCode, output } = await this.exec('psql', ...place, '-tAc', statement);
    if (exitCode !== 0) throw new Error(`${this.name}: ${output}`);
    return output.trim();
  }

  /** SIGKILL to process 1, and with it to everything in the container. */
  async kill(): Promise<void> {
    await run(['docker', 'kill', '--signal', 'KILL', this.container.getId()]);
    await run(['docker', 'wait', this.container.getId()]);
  }

  /** SIGTERM, as the kubelet does it. */
  async terminate(graceSeconds = 30): Promise<void> {
    await run(['docker', 'stop', '--time', String(graceSeconds), this.container.getId()]);
  }

  async startAgain(): Promise<void> {
    await run(['docker', 'start', this.container.getId()]);
    this.#address = '';
    await this.untilAnswers();
  }

  async remove(): Promise<void> {
    if (this.#container !== undefined) await this.#container.stop({ remove: true, removeVolumes: true, timeout: 1 });
  }
}
