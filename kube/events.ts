/**
 * Events for people: `kubectl describe` and `kubectl events` show them. The same Event again raises a count instead of making another.
 * Best effort by design: bounded, in the background, dropped when the API server won't take them. Nothing may depend on an Event.
 * Source: Kubernetes API reference, "Event v1 events.k8s.io".
 */
import { randomBytes } from 'node:crypto';
import type { KubeApi } from './client.ts';
import { isNotFound } from './errors.ts';
import { resourceType } from './kinds.ts';
import type { KubeObject, Stored } from './objects.ts';

export interface EventNote {
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, at most 128 characters: why. */
  readonly reason: string;
  readonly message: string;
  /** CamelCase, at most 128 characters: what was done or tried; default: the reason. */
  readonly action?: string;
}

interface EventObject extends KubeObject {
  readonly eventTime: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly action: string;
  readonly reason: string;
  readonly type: string;
  readonly note: string;
  readonly regarding: object;
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
}

const events = resourceType<EventObject>('Event', 'events', 'events.k8s.io/v1');

interface Entry {
  readonly about: Stored<KubeObject>;
  readonly note: EventNote;
  /** Set once the server has it. */
  name: string | undefined;
  count: number;
  sentCount: number;
  lastAt: Date;
  sentAtMs: number;
  failures: number;
}

export interface RecorderOptions {
  readonly api: KubeApi;
  /** For example `meridian.db/operator`. */
  readonly controller: string;
  /** The pod's name. */
  readonly instance: string;
  readonly onTrouble?: (error: unknown) => void;
}

const maxEntries = 1_000;
/** A higher count of the same Event is sent this often at most. */
const countEveryMs = 10_000;
/** The same Event after this long is a new one. */
const sameForMs = 10 * 60_000;
const maxNoteLength = 1_000;
const maxTries = 3;

export class EventRecorder {
  readonly #options: RecorderOptions;
  readonly #entries = new Map<string, Entry>();
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  /** Returns at once. */
  record(about: Stored<KubeObject>, note: EventNote): void {
    const id = JSON.stringify([about.metadata.uid, note.type, note.reason, note.message]);
    const present = this.#entries.get(id);
    if (present !== undefined && Date.now() - present.lastAt.getTime() < sameForMs) {
      present.count += 1;
      present.lastAt = new Date();
      this.#flushSoon(present.sentCount === 0 ? 0 : countEveryMs);
      return;
    }
    // The oldest goes first: a Map keeps the order of insertion.
    this.#entries.delete(id);
    const oldest = this.#entries.keys().next();
    if (this.#entries.size >= maxEntries && oldest.done !== true) this.#entries.delete(oldest.value);
    this.#entries.set(id, {
      about,
      note,
      name: undefined,
      count: 1,
      sentCount: 0,
      lastAt: new Date(),
      sentAtMs: 0,
      failures: 0,
    });
    this.#flushSoon(0);
  }

  /** Sends what is waiting, counts too. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#flushing;
    await this.#flush(0);
  }

  #flushSoon(delayMs: number): void {
    if (this.#timer !== undefined && delayMs > 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // What came meanwhile is looked at when this one is done.
      if (this.#flushing !== undefined) return;
      this.#flushing = this.#flush(countEveryMs).finally(() => {
        this.#flushing = undefined;
        const unsent = [...this.#entries.values()].filter(isUnsent);
        if (unsent.some(({ sentCount, failures }) => sentCount === 0 && failures === 0)) this.#flushSoon(0);
        else if (this.#timer === undefined && unsent.length > 0) this.#flushSoon(countEveryMs);
      });
    }, delayMs);
    this.#timer.unref();
  }

  async #flush(countEvery: number): Promise<void> {
    for (const [id, entry] of this.#entries) {
      if (!isUnsent(entry)) {
        if (Date.now() - entry.lastAt.getTime() > sameForMs) this.#entries.delete(id);
        continue;
      }
      if (entry.sentCount > 0 && performance.now() - entry.sentAtMs < countEvery) continue;
      try {
        await this.#send(entry);
      } catch (error) {
        entry.failures += 1;
        // The namespace may be going away with everything in it: nothing to tell then.
        if (isNotFound(error) || entry.failures >= maxTries) this.#entries.delete(id);
        this.#options.onTrouble?.(error);
      }
    }
  }

  async #send(entry: Entry): Promise<void> {
    const { about, note, count } = entry;
    const namespace = about.metadata.namespace ?? 'default';
    const client = this.#options.api.of(events);
    if (entry.name === undefined) {
      const name = `${about.metadata.name}.${randomBytes(8).toString('hex')}`;
      await client.create({
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { namespace, name },
        eventTime: microTime(entry.lastAt),
        reportingController: this.#options.controller,
        reportingInstance: this.#options.instance.slice(0, 128),
        action: (note.action ?? note.reason).slice(0, 128),
        reason: note.reason.slice(0, 128),
        type: note.type,
        note: note.message.slice(0, maxNoteLength),
        regarding: {
          apiVersion: about.apiVersion,
          kind: about.kind,
          namespace: about.metadata.namespace,
          name: about.metadata.name,
          uid: about.metadata.uid,
          resourceVersion: about.metadata.resourceVersion,
        },
      });
      entry.name = name;
    } else {
      const series = { count, lastObservedTime: microTime(entry.lastAt) };
      await client.patch({ namespace, name: entry.name }, { series });
    }
    entry.sentCount = count;
    entry.sentAtMs = performance.now();
    entry.failures = 0;
  }
}

const isUnsent = (entry: Entry): boolean => entry.sentCount < entry.count;

const microTime = (time: Date): string => time.toISOString().replace('Z', '000Z');
