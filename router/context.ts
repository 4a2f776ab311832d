/** What every session of a worker shares. Made once in worker.ts. */
import type { Logger } from 'pino';
import type { Authority } from './authority/authority.ts';
import type { Hold } from './authority/hold.ts';
import type { TokenKeyring } from './consistency/token-keyring.ts';
import type { Parameterised } from './exec/parameterised.ts';
import type { PlanCache } from './exec/plan-cache.ts';
import type { Limits } from './limits/limits.ts';
import type { Directory } from './map/directory.ts';
import type { ClusterMap } from './map/map.ts';
import type { Metrics } from './metrics.ts';
import type { BackendIdentity } from './pool/backend.ts';
import type { Lanes } from './pool/lane.ts';
import type { PlanCosts } from './pool/plan-cost.ts';
import type { Pools } from './pool/pools.ts';
import type { CancelRelay } from './session/cancel-relay.ts';
import type { Proxies } from './session/proxies.ts';
import type { SharedStatements } from './session/statements.ts';
import type { TlsContexts } from './tls.ts';
import type { MessageBudget } from './wire/message-budget.ts';

export interface RouterContext {
  readonly region: string;
  readonly allowPlaintext: boolean;
  /** Undefined until the first map has come. */
  map(): ClusterMap | undefined;
  tls(): TlsContexts;
  readonly directory: Directory;
  readonly plans: PlanCache;
  readonly pools: Pools;
  readonly limits: Limits;
  readonly lanes: Lanes;
  readonly costs: PlanCosts;
  readonly authority: Authority;
  readonly hold: Hold;
  readonly tokens: TokenKeyring;
  readonly shared: SharedStatements;
  /** Undefined: simple queries are sent as they come. */
  readonly parameterised: Parameterised | undefined;
  readonly cancels: CancelRelay;
  readonly proxies: Proxies;
  readonly messages: MessageBudget;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Resolves when the member has sent the signal and closed. */
  cancelAt(backend: BackendIdentity): Promise<void>;
}
