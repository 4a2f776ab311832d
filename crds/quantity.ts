/**
 * Kubernetes quantities ("500m", "10Gi") as schemas, and their value as a number for the rules that compare them.
 * The API server has the last word with its own CEL quantity library; the parser here must never accept what that refuses.
 * Source: Kubernetes API reference, "Quantity".
 */
import { z } from 'zod';
import { ruled } from './rule.ts';

const multipliers: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

const form = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)$/;

/** The value of a quantity, or null where the text is none. */
export function quantityValue(text: string): number | null {
  const found = form.exec(text);
  if (!found) return null;
  const [, digits = '', exponent = '', suffix = ''] = found;
  return Number(`${digits}${exponent}`) * (multipliers[suffix] ?? Number.NaN);
}

const between = (text: string, least: string, most: string): boolean => {
  const value = quantityValue(text);
  const low = quantityValue(least);
  const high = quantityValue(most);
  return value !== null && low !== null && high !== null && value >= low && value <= high;
};

/** A volume's size: a quantity of bytes within bounds. */
export const storageSize = ruled(z.string().min(1).max(20), {
  cel: `isQuantity(self) && quantity(self).compareTo(quantity('256Mi')) >= 0 && quantity(self).compareTo(quantity('64Ti')) <= 0`,
  message: "must be a quantity of bytes from 256Mi to 64Ti, such as '10Gi'",
  holds: (size) => between(size, '256Mi', '64Ti'),
});

const amount = (least: string, most: string, message: string) =>
  ruled(z.union([z.int(), z.string().max(20)]).meta({ maxLength: 20 }), {
    cel: `type(self) == int ? self > 0 && quantity(string(self)).compareTo(quantity('${most}')) <= 0 : isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('${least}')) >= 0 && quantity(string(self)).compareTo(quantity('${most}')) <= 0`,
    message,
    holds: (value) => between(String(value), least, most),
  });

const cpu = () => amount('1m', '1024', "must be a number of CPUs from 1m to 1024, such as '500m' or 2");
const memory = () => amount('16Mi', '24Ti', "must be a quantity of bytes from 16Mi to 24Ti, such as '512Mi'");

/** What a container asks for and may use at most. */
export const resources = z
  .strictObject({
    requests: z
      .strictObject({
        cpu: cpu().optional().describe("CPUs reserved, such as '500m' (half of one) or 2. Range 1m to 1024."),
        memory: memory().optional().describe("Memory reserved, in bytes, such as '512Mi'. Range 16Mi to 24Ti."),
      })
      .optional()
      .describe('What the scheduler reserves on a node for each pod.'),
    limits: z
      .strictObject({
        cpu: cpu().optional().describe("CPUs that the pod may use at most, such as '2'. Range 1m to 1024."),
        memory: memory()
          .optional()
          .describe("Memory, in bytes, past which the pod's processes are ended, such as '2Gi'. Range 16Mi to 24Ti."),
      })
      .optional()
      .describe('What each pod may use at most.'),
  })
  .describe("CPU and memory of each pod, in the form of a container's `resources`.");
