/**
 * What every Meridian object has: metadata, conditions, and schemas for the names by which objects refer to each other.
 * What a kind means is in that kind's own file; how a CRD is made of it is in `manifest.ts` and `generate.ts`.
 */
import { z } from 'zod';
import { mapOf } from './list.ts';
import { ruled } from './rule.ts';

/** Metadata as the API server returns it. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** Grows with every change of `spec`; `status.observedGeneration` says which one a controller has acted on. */
  readonly generation: number;
  readonly creationTimestamp: string;
  readonly deletionTimestamp?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly finalizers?: readonly string[] | undefined;
  readonly ownerReferences?: readonly OwnerReference[] | undefined;
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean | undefined;
  readonly blockOwnerDeletion?: boolean | undefined;
}

/** An object as the API server returns it: defaults applied, `status` there once a controller has written it. */
export interface MeridianObject<Kind extends string, Spec, Status> {
  readonly apiVersion: `${string}/${string}`;
  readonly kind: Kind;
  readonly metadata: ObjectMeta;
  readonly spec: Spec;
  readonly status?: Status | undefined;
}

/** An object as people write it: defaults may be left out. */
export interface MeridianManifest<Kind extends string, SpecInput> {
  readonly apiVersion: `${string}/${string}`;
  readonly kind: Kind;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string | undefined;
    readonly labels?: Readonly<Record<string, string>> | undefined;
    readonly annotations?: Readonly<Record<string, string>> | undefined;
  };
  readonly spec: SpecInput;
}

/** A point in time, RFC 3339. */
export const timestamp = (description: string) =>
  z
    .string()
    .max(64)
    .meta({ format: 'date-time', description: `${description} RFC 3339.` });

export const conditionStatuses = ['True', 'False', 'Unknown'] as const;

/** The form of `metav1.Condition`. */
export const condition = z
  .strictObject({
    type: z
      .string()
      .min(1)
      .max(64)
      .regex(/^[A-Z][A-Za-z0-9]*$/)
      .describe('What the condition is about, in CamelCase, such as Ready.'),
    status: z.enum(conditionStatuses).describe('Whether it holds: True, False, or Unknown.'),
    observedGeneration: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe('The metadata.generation of the object that the condition is about; an older one is out of date.'),
    lastTransitionTime: timestamp('When status last changed.'),
    reason: z
      .string()
      .min(1)
      .max(128)
      .regex(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/)
      .describe('Why, in one CamelCase word that programs may rely on.'),
    message: z.string().max(8192).describe('Why, in a sentence for people, with what to do about it.'),
  })
  .describe('One aspect of the state of the object.');

export type Condition = z.output<typeof condition>;

/** Fields with which every status begins. */
export const statusBase = {
  phase: z.string().max(40).optional().describe('The state in one word, for people. Programs should read conditions.'),
  observedGeneration: z
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .optional()
    .describe('The metadata.generation of the spec that this status is about.'),
  conditions: mapOf(condition, 'type', 32).optional().describe('The state in detail; one entry for each type.'),
} as const;

/** Most characters of an object's name, by kind. Services, pods and labels are named after them and have 63 at most. */
export const nameLimits = { region: 20, keyspace: 30, shard: 30, regionalReplica: 40, tenant: 63 } as const;

const labelForm = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
export const labelMessage =
  "must be lower-case letters, digits and '-', starting with a letter and ending with a letter or digit";

/** True for a name that Services and pods can carry as well (RFC 1035 label). */
export const isLabel = (text: string): boolean => labelForm.test(text);

/** The name of another object of the same namespace. */
export const reference = (kind: keyof typeof nameLimits) =>
  ruled(z.string().min(1).max(nameLimits[kind]), {
    cel: `self.matches('${labelForm.source}')`,
    message: labelMessage,
    holds: isLabel,
  });

/** An incarnation: the random identity that a member gets with its promise file, never with its data. */
export const incarnation = () =>
  z
    .string()
    .max(16)
    .regex(/^[0-9a-f]{16}$/)
    .describe('The random identity of this life of the member: 16 hex characters, new whenever its volume is.');

export const deletionPolicies = ['Retain', 'Delete'] as const;
