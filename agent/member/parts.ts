/** What a member is put together from, for those who look at all of it (`look.ts`) and work with it (`steps.ts`). */
import type { StartGate } from '#agent/authority/gate.ts';
import type { AuthoritySource } from '#agent/authority/source.ts';
import type { AgentConfiguration } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import type { PromiseFile } from '#agent/promise/file.ts';
import type { CredentialsWatch } from '#agent/tls/credentials.ts';
import type { TunnelServer } from '#agent/tunnel/server.ts';
import type { Upstream } from '#agent/tunnel/upstream.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { Backoff } from './backoff.ts';
import type { Commits } from './commits.ts';
import type { HandOver } from './handover.ts';
import type { LeaseDuty, LeaseThread } from './lease-duty.ts';
import type { MakingData } from './making-data.ts';
import type { MemberPostgres } from './member-postgres.ts';
import type { Patience } from './patience.ts';
import type { Rejoining } from './rejoining.ts';
import type { StandingOrders } from './standing-orders.ts';

export interface MemberOptions {
  readonly configuration: AgentConfiguration;
  readonly promise: PromiseFile;
  readonly orders: Orders | undefined;
  readonly authority: AuthoritySource;
  readonly credentials: CredentialsWatch;
  readonly upstream: Upstream;
  readonly lease: LeaseThread;
  readonly log: Logger;
}

export interface MemberParts {
  readonly options: MemberOptions;
  readonly standing: StandingOrders;
  readonly postgres: MemberPostgres;
  readonly making: MakingData;
  readonly rejoining: Rejoining;
  readonly gate: StartGate;
  readonly lease: LeaseDuty;
  readonly commits: Commits;
  readonly handOver: HandOver;
  readonly patience: Patience;
  readonly retry: Backoff;
  /** Made after the member. */
  readonly tunnels: () => TunnelServer | undefined;
}
