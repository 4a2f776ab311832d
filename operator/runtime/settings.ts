/**
 * What the operator is told by its environment; the chart sets all of it. A wrong value ends the program with a sentence.
 */
import { z } from 'zod';
import { ports } from '#core/names.ts';

const settingsSchema = z
  .object({
    POD_NAME: z.string().min(1),
    POD_NAMESPACE: z.string().min(1),
    /** Whose heartbeat it is: it goes with the pod. Empty: it stays. */
    POD_UID: z.string().default(''),
    /** Empty or absent: all namespaces. */
    WATCH_NAMESPACE: z.string().default(''),
    MERIDIAN_POSTGRES_IMAGE: z.string().min(1),
    MERIDIAN_PROGRAMS_IMAGE: z.string().min(1),
    MERIDIAN_LEASE: z.string().min(1).default('meridian-operator'),
    MERIDIAN_PORT: z.coerce.number().int().min(0).max(65_535).default(ports.operatorHttp),
    LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  })
  .transform((env) => ({
    podName: env.POD_NAME,
    podNamespace: env.POD_NAMESPACE,
    podUid: env.POD_UID,
    watchNamespace: env.WATCH_NAMESPACE === '' ? undefined : env.WATCH_NAMESPACE,
    images: { postgres: env.MERIDIAN_POSTGRES_IMAGE, programs: env.MERIDIAN_PROGRAMS_IMAGE },
    leaseName: env.MERIDIAN_LEASE,
    port: env.MERIDIAN_PORT,
    logLevel: env.LOG_LEVEL,
  }));

export type OperatorSettings = z.output<typeof settingsSchema>;

/** @throws Error naming the variables that are missing or wrong. */
export function readSettings(env: Readonly<Record<string, string | undefined>>): OperatorSettings {
  const read = settingsSchema.safeParse(env);
  if (read.success) return read.data;
  const problems = read.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new Error(`wrong environment: ${problems.join('; ')}`);
}
