/** A shard of three real members, one in each of three regions: what most of the tests of authority begin with. */
import type { MemberFixture } from './member-container.ts';
import { KeyspaceFixture, type ShardFixture, type ShardOptions } from './member-fixture.ts';

export interface ThreeRegions {
  readonly keyspace: KeyspaceFixture;
  readonly shard: ShardFixture;
  /** The first primary. */
  readonly eu: MemberFixture;
  readonly us: MemberFixture;
  readonly ap: MemberFixture;
}

/** The members answer, and have no orders yet; one acknowledges unless told otherwise. */
export async function threeRegions(name: string, options: Omit<ShardOptions, 'members'> = {}): Promise<ThreeRegions> {
  const keyspace = await KeyspaceFixture.start(name);
  try {
    const regions = ['eu', 'us', 'ap'];
    const members = regions.map((region) => ({ name: `main-${region}-0`, region }));
    const shard = await keyspace.shard({ acknowledgements: 1, ...options, members });
    const [eu, us, ap] = members.map((member) => shard.member(member.name));
    if (eu === undefined || us === undefined || ap === undefined) throw new Error('three members are needed');
    return { keyspace, shard, eu, us, ap };
  } catch (error) {
    await keyspace.stop();
    throw error;
  }
}
