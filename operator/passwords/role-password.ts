/**
 * The life of one application role's password as kept in its Secret: made once, changed on request, the former one accepted for a
 * while. Pure but for what the caller hands in (`Ingredients`): no clock, no randomness, no API.
 *
 * A rotation has two steps so that nobody is ever refused. First the new password is only *prepared*: every shard is taught to
 * accept it beside the present one, while the Secret still shows the present one. When all shards have it, it is *published*: the
 * Secret's `password` changes, and the former one stays accepted for the overlap. Each step is one write of the Secret, so an
 * operator that is killed in between goes on where the Secret says.
 *
 * Invariants: all verifiers of a role share salt and iterations; at most two are accepted at a time (a rotation within the overlap
 * of the one before ends that overlap); nothing here may reach a log, an Event or a condition.
 */
import { makeVerifier, parseVerifier, type ScramParameters, verifies } from './verifier.ts';

/** What the Secret remembers. `password` is what applications read; the rest is the operator's. */
export interface RolePassword {
  readonly password: string;
  readonly verifier: string;
  /** A rotation on its way: accepted by the shards that know of it, not yet shown to applications. */
  readonly prepared?: { readonly password: string; readonly verifier: string; readonly request: string };
  /** Accepted beside the present one until that time (milliseconds since 1970). */
  readonly previous?: { readonly verifier: string; readonly untilMs: number };
  /** The last value of the rotate annotation that was served. */
  readonly served: string;
}

/** What the shards are to accept. `untilMs` is absent while the end of the overlap isn't decided yet. */
export interface AcceptedVerifiers {
  readonly verifier: string;
  readonly previous?: { readonly verifier: string; readonly untilMs: number | undefined };
}

export interface Ingredients {
  readonly nowMs: number;
  readonly overlapMs: number;
  /** A fresh random password; called at most once. */
  readonly newPassword: () => string;
  readonly newParameters: () => ScramParameters;
}

export type PasswordStep = 'made' | 'remade' | 'adopted' | 'prepared' | 'published' | 'overlap ended' | 'unchanged';

/**
 * What the Secret should hold now, given what it holds and the value of its rotate annotation ('' for none).
 * Publishing is not decided here: see `publishPrepared`.
 */
export async function nextPassword(
  present: RolePassword | undefined,
  request: string,
  use: Ingredients,
): Promise<{ readonly state: RolePassword; readonly step: PasswordStep }> {
  const parsed = present === undefined ? undefined : parseVerifier(present.verifier);
  if (present === undefined || present.password === '') {
    // New, or emptied by someone. A verifier that can still be read keeps its salt, so that the former password stays accepted for
    // the overlap.
    const password = use.newPassword();
    const verifier = await makeVerifier(password, parsed ?? use.newParameters());
    const state: RolePassword = {
      password,
      verifier,
      served: request,
      ...(present !== undefined && parsed !== undefined
        ? { previous: { verifier: present.verifier, untilMs: use.nowMs + use.overlapMs } }
        : {}),
    };
    return { state, step: present === undefined ? 'made' : 'remade' };
  }
  if (parsed === undefined) {
    // A Secret that people made before the role, with a password of their choice; or a verifier that someone spoilt.
    const verifier = await makeVerifier(present.password, use.newParameters());
    return { state: { password: present.password, verifier, served: request }, step: 'adopted' };
  }
  if (!(await verifies(present.password, parsed))) {
    // Someone wrote a password of their own into the Secret: it is what applications read, so it becomes the password.
    return {
      step: 'adopted',
      state: {
        password: present.password,
        verifier: await makeVerifier(present.password, parsed),
        previous: { verifier: present.verifier, untilMs: use.nowMs + use.overlapMs },
        served: present.served,
      },
    };
  }
  if (present.prepared !== undefined) return { state: present, step: 'unchanged' };
  if (request !== '' && request !== present.served) {
    const password = use.newPassword();
    const verifier = await makeVerifier(password, parsed);
    return { step: 'prepared', state: { ...present, prepared: { password, verifier, request } } };
  }
  if (present.previous !== undefined && present.previous.untilMs <= use.nowMs) {
    const { previous: _ended, ...rest } = present;
    return { state: rest, step: 'overlap ended' };
  }
  return { state: present, step: 'unchanged' };
}

/** To be called when every shard accepts the prepared password: shows it to applications and starts the overlap. */
export function publishPrepared(present: RolePassword, nowMs: number, overlapMs: number): RolePassword {
  if (present.prepared === undefined) return present;
  return {
    password: present.prepared.password,
    verifier: present.prepared.verifier,
    previous: { verifier: present.verifier, untilMs: nowMs + overlapMs },
    served: present.prepared.request,
  };
}

/** Two verifiers at most: while a rotation is prepared, the new and the present; else the present and the former. */
export function acceptedVerifiers(state: RolePassword): AcceptedVerifiers {
  if (state.prepared !== undefined)
    return { verifier: state.prepared.verifier, previous: { verifier: state.verifier, untilMs: undefined } };
  return state.previous === undefined
    ? { verifier: state.verifier }
    : { verifier: state.verifier, previous: state.previous };
}
