/**
 * What can go wrong between us and the API server, as one typed error.
 * Source: Kubernetes API conventions, "Response Status Kind"; `reason` is the server's word, `Unreachable` and `Timeout` are ours.
 */

export interface ApiErrorBody {
  readonly message?: string;
  readonly reason?: string;
  readonly code?: number;
  readonly details?: { readonly retryAfterSeconds?: number; readonly causes?: readonly ApiErrorCause[] };
}

export interface ApiErrorCause {
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
}

/**
 * An answer that is no success, or no answer at all (`status` 0).
 * After `Unreachable` or `Timeout` of a write nobody knows whether it was done: read before writing again.
 */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  /** For example `NotFound`, `Conflict`, `AlreadyExists`, `Expired`, `Invalid`, `Forbidden`, `Unreachable`, `Timeout`. */
  readonly reason: string;
  /** What was asked, for example `PUT /apis/meridian.db/v1alpha1/namespaces/shop/shards/a/status`. */
  readonly request: string;
  readonly causes: readonly ApiErrorCause[];
  /** How long the server asks to wait before the next try; only on 429 and some 503. */
  readonly retryAfterMs: number | undefined;

  constructor(status: number, request: string, body: ApiErrorBody, options?: ErrorOptions) {
    super(body.message ?? `API server answered ${status}`, options);
    this.status = status;
    this.reason = body.reason ?? reasonOfStatus(status);
    this.request = request;
    this.causes = body.details?.causes ?? [];
    const retryAfterSeconds = body.details?.retryAfterSeconds;
    this.retryAfterMs = retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1000;
  }

  get isNotFound(): boolean {
    return this.status === 404;
  }

  /** Somebody else changed or made the object: read again, decide again. */
  get isConflict(): boolean {
    return this.status === 409;
  }

  get isAlreadyExists(): boolean {
    return this.reason === 'AlreadyExists';
  }

  /** The resourceVersion or continue token is older than what the server remembers: list from the start. */
  get isGone(): boolean {
    return this.status === 410;
  }

  get isForbidden(): boolean {
    return this.status === 403;
  }

  /** The object is wrong in itself; the message says what to change. */
  get isInvalid(): boolean {
    return this.status === 422 || this.status === 400;
  }

  /** No answer came, or the server could not serve just now: the same request may succeed later. */
  get isTransient(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

function reasonOfStatus(status: number): string {
  switch (status) {
    case 0:
      return 'Unreachable';
    case 400:
      return 'BadRequest';
    case 401:
      return 'Unauthorized';
    case 403:
      return 'Forbidden';
    case 404:
      return 'NotFound';
    case 409:
      return 'Conflict';
    case 410:
      return 'Expired';
    case 422:
      return 'Invalid';
    case 429:
      return 'TooManyRequests';
    default:
      return 'InternalError';
  }
}

export const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.isNotFound;
export const isConflict = (error: unknown): boolean => error instanceof ApiError && error.isConflict;
