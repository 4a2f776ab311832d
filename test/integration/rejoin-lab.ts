/**
 * Several plain Postgres 17 clusters in one container of our own image, without the agent, on a file system in memory, and
 * the agent's functions for rejoining run beside them (`rejoin-inside.ts`, bundled). For what needs logs in states that a
 * whole shard comes to by accident only.
 */
import { fileURLToPath } from 'node:url';
import type { StartedTestContainer } from 'testcontainers';
import type { Orders } from '#core/protocol/orders.ts';
import { agentRole, bootstrapRolesSql } from '#core/roles.ts';
import { labFolder as folder, insideProgram, startLabContainer } from './lab-container.ts';

const inside = fileURLToPath(new URL('rejoin-inside.ts', import.meta.url));

const settings = {
  listen_addresses: '',
  unix_socket_directories: folder,
  fsync: 'off',
  wal_level: 'logical',
  wal_log_hints: 'on',
  max_wal_size: '256MB',
  autovacuum: 'off',
  hot_standby_feedback: 'off',
  max_standby_streaming_delay: '-1',
  wal_retrieve_retry_interval: '100ms',
  wal_receiver_status_interval: '100ms',
  checkpoint_timeout: '1h',
  wal_keep_size: '1GB',
  restore_command: '',
};

export class RejoinLab {
  readonly #container: StartedTestContainer;
  #ports = 6000;

  private constructor(container: StartedTestContainer) {
    this.#container = container;
  }

  static async start(): Promise<RejoinLab> {
    return new RejoinLab(await startLabContainer(inside));
  }

  async stop(): Promise<void> {
    await this.#container.stop({ timeout: 1 });
  }

  /** A cluster of its own, running, with Meridian's roles. */
  async primary(name: string): Promise<LabCluster> {
    const cluster = this.#cluster(name);
    await this.sh(`initdb -D ${cluster.path} -U ${agentRole} --auth=trust --data-checksums --no-sync >/dev/null`);
    await cluster.start();
    await cluster.sql(bootstrapRolesSql);
    return cluster;
  }

  /** A running copy that streams. */
  async standby(name: string, source: LabCluster): Promise<LabCluster> {
    const cluster = this.#cluster(name);
    await this.sh(
      `pg_basebackup -D ${cluster.path} -h ${folder} -p ${source.port} -U ${agentRole} -c fast --no-sync && touch ${cluster.path}/standby.signal`,
    );
    await cluster.follow(source);
    await cluster.start();
    await cluster.untilCaughtUp(source);
    return cluster;
  }

  #cluster(name: string): LabCluster {
    this.#ports += 1;
    return new LabCluster(this, `${folder}/${name}`, this.#ports);
  }

  async sh(script: string): Promise<string> {
    const { exitCode, output } = await this.#container.exec(['bash', '-c', `set -e -o pipefail\n${script}`]);
    if (exitCode !== 0) throw new Error(`exit status ${exitCode} of: ${script}\n${output}`);
    return output.trim();
  }

  async call(wish: object): Promise<unknown> {
    const parsed = JSON.parse(await this.sh(this.command(wish))) as { result?: unknown; error?: string };
    if (parsed.error !== undefined) throw new Error(parsed.error);
    return parsed.result;
  }

  command(wish: object): string {
    return `exec node ${insideProgram} '${JSON.stringify(wish)}'`;
  }
}

export interface LabPosition {
  readonly timeline: number;
  readonly lsn: string;
}

export class LabCluster {
  readonly lab: RejoinLab;
  readonly path: string;
  readonly port: number;
  /** Over those of all clusters, from the next start on. */
  settings: Readonly<Record<string, string>> = {};

  constructor(lab: RejoinLab, path: string, port: number) {
    this.lab = lab;
    this.path = path;
    this.port = port;
  }

  async start(withinSeconds = 20): Promise<void> {
    const options = [
      `-p ${this.port}`,
      ...Object.entries({ ...settings, ...this.settings }).map(([name, value]) => `-c ${name}='${value}'`),
    ];
    const start = `pg_ctl -D ${this.path} -l ${this.path}.log -o "${options.join(' ')}" -w -t ${withinSeconds} start >/dev/null`;
    await this.lab.sh(`${start} || { tail -20 ${this.path}.log; false; }`);
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.lab.sh(`pg_ctl -D ${this.path} -m ${mode} -w stop >/dev/null`);
  }

  /** In force at the next start, or the next reload. Nobody: nothing comes any more. */
  async follow(source: LabCluster | undefined, slot = ''): Promise<void> {
    const host = source === undefined ? '/nowhere' : folder;
    const text = `primary_conninfo = 'host=${host} port=${source?.port ?? 1} user=${agentRole}'`;
    await this.lab.sh(`printf "${text}\nprimary_slot_name = '${slot}'\n" >${this.path}/postgresql.auto.conf`);
  }

  async reload(): Promise<void> {
    await this.lab.sh(`pg_ctl -D ${this.path} reload >/dev/null`);
  }

  /** The first column of the first row of the last statement. */
  async sql(text: string): Promise<string> {
    return this.lab.sh(
      `psql -X -q -At -v ON_ERROR_STOP=1 -h ${folder} -p ${this.port} -U ${agentRole} postgres <<'SQL'\n${text}\nSQL`,
    );
  }

  /** Where its log ends, all of it flushed: right behind a commit. */
  async lsn(): Promise<string> {
    return (
      await this.sql(
        "begin; select pg_logical_emit_message(true, 'now', ''); commit; select 'end ' || pg_current_wal_flush_lsn()",
      )
    ).replace(/^.*end /s, '');
  }

  async untilCaughtUp(source: LabCluster): Promise<void> {
    const lsn = await source.lsn();
    await this.until(`pg_last_wal_replay_lsn() >= '${lsn}'`);
  }

  async until(condition: string): Promise<void> {
    const giveUpAt = Date.now() + 60_000;
    while ((await this.sql(`select ${condition}`)) !== 't') {
      if (Date.now() > giveUpAt)
        throw new Error(`never: ${condition}\n${await this.lab.sh(`tail -20 ${this.path}.log`)}`);
    }
  }

  position(replayed?: string): Promise<LabPosition> {
    return this.call('position', replayed === undefined ? {} : { replayed }) as Promise<LabPosition>;
  }

  call(call: string, wish: object = {}): Promise<unknown> {
    return this.lab.call({ call, pgdata: this.path, ...wish });
  }

  /** Waits for the promotion and says which timeline it took. */
  async promote(): Promise<number> {
    await this.sql('select pg_promote(true, 20)');
    return Number(await this.sql("select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"));
  }

  async anchor(): Promise<void> {
    await this.call('anchor', { sockets: folder, port: this.port });
  }

  rewindFrom(source: LabCluster, history: Orders['history'], wish: object = {}): object {
    return {
      call: 'rewind',
      pgdata: this.path,
      sockets: folder,
      port: source.port,
      history,
      wanted: history.at(-1)?.timeline,
      ...wish,
    };
  }
}
