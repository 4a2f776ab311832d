/**
 * The description of a kind: its names, schemas, printer columns and rules, from which the CRD YAML is generated
 * and manifests are checked offline. Programs use it for the path of a kind in the API (`plural`, `apiPath`).
 */
import { z } from 'zod';
import { apiGroup, apiVersion } from '#core/names.ts';
import { isLabel, labelMessage } from './object.ts';
import { type Rule, ruled } from './rule.ts';

export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'date';
  readonly jsonPath: string;
  readonly description: string;
  /** Above 0: shown with `kubectl get -o wide` only. */
  readonly priority?: number;
}

export interface ScaleSubresource {
  readonly specReplicasPath: string;
  readonly statusReplicasPath: string;
  readonly labelSelectorPath: string;
}

export interface KindOptions<K extends string, Spec extends z.ZodType, Status extends z.ZodType> {
  readonly kind: K;
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly description: string;
  /** Most characters of metadata.name. */
  readonly nameLimit: number;
  readonly spec: Spec;
  readonly status: Status;
  /** Rules that need metadata.name or the whole object. */
  readonly rules?: readonly Rule<{ metadata: { name: string }; spec: z.output<Spec> }>[];
  readonly printerColumns: readonly PrinterColumn[];
  readonly scale?: ScaleSubresource;
}

export interface Kind<
  K extends string = string,
  Spec extends z.ZodType = z.ZodType,
  Status extends z.ZodType = z.ZodType,
> extends KindOptions<K, Spec, Status> {
  readonly singular: string;
  readonly listKind: `${K}List`;
  /** `meridian.db/v1alpha1` */
  readonly apiVersion: `${string}/${string}`;
  /** Name of the CRD: `shards.meridian.db`. */
  readonly crdName: string;
  /** What people may write: checks everything that the API server checks, and applies defaults. */
  readonly manifest: z.ZodType<{
    apiVersion: `${string}/${string}`;
    kind: K;
    metadata: {
      name: string;
      namespace?: string | undefined;
      labels?: Record<string, string> | undefined;
      annotations?: Record<string, string> | undefined;
    };
    spec: z.output<Spec>;
  }>;
}

export const groupVersion = `${apiGroup}/${apiVersion}` as const;

/** The name's form is a rule of every kind, since Services, pods and labels carry it. */
export const nameRule = (limit: number): Rule<{ metadata: { name: string } }> => ({
  cel: "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
  message: `metadata.name ${labelMessage}, and ${limit} characters at most`,
  holds: ({ metadata }) => isLabel(metadata.name) && metadata.name.length <= limit,
});

export function defineKind<K extends string, Spec extends z.ZodType, Status extends z.ZodType>(
  options: KindOptions<K, Spec, Status>,
): Kind<K, Spec, Status> {
  const shape = z.strictObject({
    apiVersion: z.literal(groupVersion),
    kind: z.literal(options.kind),
    metadata: z.strictObject({
      name: z.string().min(1).max(options.nameLimit),
      namespace: z.string().optional(),
      labels: z.record(z.string(), z.string()).optional(),
      annotations: z.record(z.string(), z.string()).optional(),
    }),
    spec: options.spec,
  });
  type Whole = { metadata: { name: string }; spec: z.output<Spec> };
  const rules: readonly Rule<Whole>[] = [nameRule(options.nameLimit), ...(options.rules ?? [])];
  return {
    ...options,
    singular: options.kind.toLowerCase(),
    listKind: `${options.kind}List`,
    apiVersion: groupVersion,
    crdName: `${options.plural}.${apiGroup}`,
    rules,
    manifest: ruled(shape as unknown as z.ZodType<Whole>, ...rules) as unknown as Kind<K, Spec, Status>['manifest'],
  };
}

export const ageColumn: PrinterColumn = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'How long ago the object was made.',
};

/** The message of the condition Ready: what is wrong, where something is. With `-o wide` only. */
export const messageColumn: PrinterColumn = {
  name: 'Message',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].message',
  description: 'What the condition Ready says.',
  priority: 1,
};

export const phaseColumn: PrinterColumn = {
  name: 'Phase',
  type: 'string',
  jsonPath: '.status.phase',
  description: 'The state in one word.',
};
