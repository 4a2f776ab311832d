/**
 * One member (our own image: agent and Postgres) as a container, and how a test asks it, stops it and starts it again.
 * It runs as it would in a pod: no root, read-only root file system, no capabilities.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { GenericContainer, type StartedTestContainer } from 'testcontainers';
import type { Agent } from 'undici';
import { run } from '#cluster/process.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { memberPaths, ports } from '#core/names.ts';
import type { AuthorityAnswer, AuthorityQuestion, Fenced, FenceRefusal } from '#core/protocol/authority.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { agentRole, operatorRole } from '#core/roles.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import type { ShardFixture } from './member-fixture.ts';

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
