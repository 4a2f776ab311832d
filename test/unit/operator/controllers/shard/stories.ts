/** A shard in the small world that is ready, with whoever acts on it: for tests of single stories. */
import assert from 'node:assert/strict';
import { Operator } from './simulated-operator.ts';
import { type TakeoverWish, takeover } from './simulated-takeover.ts';
import { World } from './world.ts';

export const names = ['a-eu-0', 'a-us-0', 'a-ap-0'] as const;

export function ready(spec: ConstructorParameters<typeof World>[0] = {}, members: readonly string[] = names) {
  const world = new World(spec);
  for (const name of members) world.addMember(name);
  const operator = new Operator(world, 1);
  settle(world, operator);
  assert.equal(world.shard.status?.phase, 'Ready');
  return { world, operator };
}

/** Whatever the takeover service is asked for, it does at once and whole. */
export function settle(world: World, operator: Operator, rounds = 40): void {
  for (let round = 0; round < rounds; round += 1) {
    world.tick();
    operator.round();
    const target = world.asked.pop();
    world.asked.length = 0;
    if (target !== undefined) run(world, { target, isPlanned: true });
  }
}

export function run(world: World, wish: TakeoverWish): string[] {
  return [...takeover(world, wish)];
}

export function failOver(world: World, lost: string): void {
  world.crash(lost);
  run(world, { isPlanned: false });
  assert.notEqual(world.record?.authority.member, lost);
}

export const listed = (world: World): string[] =>
  (world.record?.membership.members ?? []).map(({ name }) => name).toSorted();
export const find = (world: World, type: string) =>
  world.shard.status?.conditions?.find((condition) => condition.type === type);
export const primaryOf = (world: World): string | undefined => world.record?.authority.member;
export const durability = (acknowledgements: number) => ({
  durability: { acknowledgements, scope: 'AnyMember' as const, onLoss: 'Block' as const },
});
