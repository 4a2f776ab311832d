/**
 * The lease thread: wiring only. It keeps a member's leases, as primary (asking.ts, tenure.ts, kubernetes-lease.ts) or as
 * follower (granting.ts), and does nothing else, so that whatever keeps the agent's main thread busy costs no lease.
 * Never imported: started by `keeper.ts`, which says what is wished.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { bootTimeMs } from '#clock/boot-time.ts';
import { replicationName } from '#core/identity.ts';
import { Asking } from './asking.ts';
import { Granting } from './granting.ts';
import { DeadMansHandle } from './handle.ts';
import { KubernetesLease } from './kubernetes-lease.ts';
import { LeaseMemory } from './memory.ts';
import type { FromThread, LeaseLog, LeaseThreadOptions, ToThread, Wish } from './messages.ts';
import { Tenure } from './tenure.ts';

/** How soon it is noticed that time has passed. */
const TICK_MS = 20;

const port = parentPort;
if (port === null) throw new Error('the lease thread is started by the keeper');
const options = workerData as LeaseThreadOptions;
const say = (message: FromThread): void => port.postMessage(message);
const logAt =
  (level: 'info' | 'warn' | 'error') =>
  (details: object, message: string): void =>
    say({ kind: 'log', level, details, message });
const log: LeaseLog = { info: logAt('info'), warn: logAt('warn'), error: logAt('error') };

let { credentials, identity } = options;
const memory = new LeaseMemory(options.memory);
const tenure = new Tenure({
  memory,
  handle: new DeadMansHandle(options.handle),
  now: bootTimeMs,
  onLost: (reason) => say({ kind: 'lost', reason }),
  log,
});
const asking = new Asking({
  place: options.place,
  credentials,
  identity: () => identity,
  wishes: () => tenure.wishes,
  isServing: () => memory.isServing,
  now: bootTimeMs,
  onGrant: (from, grant, sentAtMs) => tenure.granted(from, grant, sentAtMs),
  log,
});
const granting = new Granting({
  place: options.place,
  credentials: () => credentials,
  identity: () => identity,
  note: (grantMs) => memory.grantUntil(bootTimeMs() + grantMs),
  heardServing: () => memory.hearServing(),
  log,
});
const kubernetes =
  options.kubernetes === undefined
    ? undefined
    : new KubernetesLease({
        place: options.kubernetes,
        now: bootTimeMs,
        onHeld: (untilMs) => tenure.kubernetesHeldUntil(untilMs),
        log,
      });

function aimKubernetes(): void {
  const [newest] = tenure.wishes;
  if (newest === undefined || !tenure.needsKubernetes) {
    // Given up early only where nothing can be left that stands by it.
    if (tenure.isArmed) kubernetes?.claim(undefined);
    else kubernetes?.release().catch((error: unknown) => log.warn({ err: error }, 'lease: not given up'));
    return;
  }
  kubernetes?.claim({ holder: replicationName(identity), epoch: newest.epoch });
}

async function work(wish: Wish): Promise<void> {
  switch (wish.kind) {
    case 'credentials':
      credentials = wish.credentials;
      asking.renew(credentials);
      return;
    case 'identity':
      identity = wish.identity;
      asking.wishesChanged();
      granting.identityChanged();
      return;
    case 'serve': {
      granting.aim(undefined);
      const inForce = tenure.serve(wish.wish);
      asking.wishesChanged();
      aimKubernetes();
      await inForce;
      asking.wishesChanged();
      aimKubernetes();
      return;
    }
    case 'follow':
    case 'stop':
      tenure.end();
      asking.wishesChanged();
      aimKubernetes();
      granting.aim(wish.kind === 'follow' ? wish.wish : undefined);
      return;
    case 'arm':
      tenure.arm(wish.postmasterPid);
      return;
    case 'postmaster':
      tenure.setPostmaster(wish.postmasterPid);
      return;
    case 'disarm':
      tenure.disarm();
      aimKubernetes();
      return;
    case 'grants':
      say({ kind: 'grants', grants: tenure.grantsSeen });
      return;
    case 'close':
      granting.aim(undefined);
      tenure.end();
      if (!tenure.isArmed) await kubernetes?.release();
      kubernetes?.close();
      await asking.stop();
      clearInterval(ticking);
      return;
  }
}

port.on('message', (message: ToThread) => {
  work(message).then(
    () => say({ kind: 'done', id: message.id }),
    (error: unknown) =>
      say({ kind: 'done', id: message.id, problem: error instanceof Error ? error.message : String(error) }),
  );
});
const ticking = setInterval(() => tenure.tick(), TICK_MS);
asking.listen(options.port, options.host).then(
  (listening) => say({ kind: 'listening', port: listening }),
  (error: unknown) => say({ kind: 'failed', message: error instanceof Error ? error.message : String(error) }),
);
