/** Every fault there is, in the order in which they are tried: the gentle ones first. */
import { controlFaults } from './control-faults.ts';
import type { Fault } from './fault.ts';
import { lineFaults } from './line-faults.ts';
import { placeFaults } from './place-faults.ts';
import { processFaults } from './process-faults.ts';

export const catalogue: readonly Fault[] = [...processFaults, ...placeFaults, ...lineFaults, ...controlFaults];

export function faultNamed(name: string): Fault {
  const found = catalogue.find((fault) => fault.name === name);
  if (found === undefined) {
    throw new Error(`no fault is called ${name}; there are ${catalogue.map((fault) => fault.name).join(', ')}`);
  }
  return found;
}
