/**
 * Server-side apply of what builders make, skipped where the server surely has it already: this process applied the same
 * before, and the object seen now is still the one that the server answered with.
 * Leaves deciding what to apply to controllers. Forgetting (a restart) only costs one apply for each object.
 */
import { createHash } from 'node:crypto';
import type { Applied, KubeApi } from '#kube/client.ts';
import { apiVersionOf, type ResourceType } from '#kube/kinds.ts';
import { type KubeObject, keyOf, type Stored } from '#kube/objects.ts';

interface Memory {
  readonly digest: string;
  readonly uid: string;
  readonly version: string;
}

export class Applier {
  readonly #kube: KubeApi;
  readonly #applied = new Map<string, Memory>();

  constructor(kube: KubeApi) {
    this.#kube = kube;
  }

  /**
   * Whether an apply would be superfluous.
   * @param present As seen now, for example in the cache: a newer change by somebody else must show in it sooner or later.
   */
  isCurrent<T extends KubeObject>(type: ResourceType<T>, wish: T, present: Stored<T> | undefined): boolean {
    const memory = this.#applied.get(idOf(type, wish));
    return (
      memory !== undefined &&
      present !== undefined &&
      memory.uid === present.metadata.uid &&
      memory.version === versionOf(present) &&
      memory.digest === digestOf(wish)
    );
  }

  async apply<T extends KubeObject>(type: ResourceType<T>, wish: T): Promise<Stored<T>> {
    const stored = await this.#kube.of(type).apply(wish as unknown as Applied<T>);
    this.#applied.set(idOf(type, wish), {
      digest: digestOf(wish),
      uid: stored.metadata.uid,
      version: versionOf(stored),
    });
    return stored;
  }
}

const idOf = (type: ResourceType, object: KubeObject): string =>
  `${apiVersionOf(type)}/${type.plural}/${keyOf(object)}`;

/** `generation` where the kind has one: it stands still while only the status changes. */
const versionOf = ({ metadata }: Stored<KubeObject>): string =>
  metadata.generation === undefined ? `r${metadata.resourceVersion}` : `g${metadata.generation}`;

const digestOf = (object: KubeObject): string => createHash('sha256').update(JSON.stringify(object)).digest('hex');
