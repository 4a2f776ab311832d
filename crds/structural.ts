/**
 * From Zod's JSON Schema to a structural schema as CustomResourceDefinitions want it.
 * Zod's `openapi-3.0` output is nearly that; what differs is dropped or rewritten here, and anything that this file does
 * not know is an error, so that no constraint is lost in silence.
 * Source: Kubernetes documentation, "Specifying a structural schema"; Zod documentation, "JSON Schema".
 */
import { z } from 'zod';

/** A structural schema, as far as Meridian uses it. */
export interface Structural {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  required?: string[];
  items?: Structural;
  properties?: Record<string, Structural>;
  additionalProperties?: Structural;
  anyOf?: { type: string }[];
  [extension: `x-kubernetes-${string}`]: unknown;
}

const copied = [
  'type',
  'description',
  'default',
  'enum',
  'format',
  'pattern',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'maxProperties',
  'required',
] as const;

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The bounds that Zod puts on every integer say no more than `format: int64`, and are left out. */
const isRealBound = (value: unknown): value is number =>
  typeof value === 'number' && Math.abs(value) !== Number.MAX_SAFE_INTEGER;

function convert(schema: Json, path: string): Structural {
  const out: Record<string, unknown> = {};
  const made = out as Structural;
  for (const key of Object.keys(schema)) {
    const value = schema[key];
    if ((copied as readonly string[]).includes(key) || key.startsWith('x-kubernetes-')) out[key] = value;
    else if (key === 'minimum' || key === 'maximum') {
      if (isRealBound(value)) out[key] = value;
    } else if (key === 'properties' && isObject(value)) {
      made.properties = Object.fromEntries(
        Object.entries(value).map(([name, inner]) => [name, convert(inner as Json, `${path}.${name}`)]),
      );
    } else if (key === 'items' && isObject(value)) made.items = convert(value, `${path}[]`);
    else if (key === 'additionalProperties') {
      // `false` is what a structural schema means anyway: fields that it doesn't know are pruned, or refused if strict.
      if (isObject(value)) made.additionalProperties = convert(value, `${path}{}`);
    } else if (key === 'propertyNames') {
      // The API server has no such thing; the rule on keys stands beside it as CEL.
    } else if (key === 'anyOf' && isIntOrString(value)) out['x-kubernetes-int-or-string'] = true;
    else if (key === 'readOnly' || key === 'nullable') throw new Error(`${path}: ${key} has no place in these schemas`);
    else throw new Error(`${path}: nothing known about JSON Schema's ${key}`);
  }
  if (made.type === 'integer') made.format = 'int64';
  if (isObject(made.default)) made.default = withDefaults(made, made.default);
  return made;
}

/** The API server holds rules against a default as it stands, before the defaults inside of it: so they are spelled out. */
function withDefaults(schema: Structural, value: Json): Json {
  const filled: Record<string, unknown> = { ...value };
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    if (filled[name] === undefined && inner.default !== undefined) filled[name] = inner.default;
  }
  return filled;
}

/** A number or a text, as quantities are: the API server has its own word for it, which takes no bounds on either. */
const isIntOrString = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.length === 2 &&
  isObject(value[0]) &&
  value[0]['type'] === 'integer' &&
  isObject(value[1]) &&
  value[1]['type'] === 'string';

/** The structural schema of what people may write (defaults not yet applied). */
export function structural(schema: z.ZodType, path: string): Structural {
  const json = z.toJSONSchema(schema, {
    target: 'openapi-3.0',
    io: 'input',
    unrepresentable: 'throw',
    reused: 'inline',
  });
  return convert(json, path);
}
