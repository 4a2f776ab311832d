/** Edits of the record of authority that the API server refuses by itself, whoever makes them. */
import { type Manifest, shard } from './manifest.ts';

export interface StatusEdit {
  /** What is wrong, as the name of a test. */
  readonly name: string;
  /** A merge patch of the status. */
  readonly patch: Readonly<Record<string, unknown>>;
  /** What the API server's message contains; undefined where it is to be accepted. */
  readonly message: string | undefined;
}

const incarnation = 'a'.repeat(16);
const other = 'b'.repeat(16);

export const recorded: Manifest = shard({}, 'edited');

const authority = {
  epoch: 3,
  timeline: 3,
  member: 'a-eu-0',
  incarnation,
  region: 'eu',
  since: '2026-01-01T00:00:00Z',
  state: 'Active',
};
const members = [
  { name: 'a-eu-0', incarnation },
  { name: 'a-us-0', incarnation },
];
const history = [1, 2, 3].map((epoch) => ({ epoch, timeline: epoch, member: 'a-eu-0', forkLsn: '0/0' }));

export const recordedStatus = { authority, membership: { generation: 5, members, acknowledgements: 1 }, history };

export const statusEdits: readonly StatusEdit[] = [
  {
    name: 'an epoch that goes back',
    patch: { authority: { ...authority, epoch: 2 } },
    message: 'status.authority.epoch never goes back',
  },
  {
    name: 'another primary at the same epoch',
    patch: { authority: { ...authority, member: 'a-us-0' } },
    message: 'names another member or timeline only at a higher epoch',
  },
  {
    name: 'another life of the primary at the same epoch',
    patch: { authority: { ...authority, incarnation: other } },
    message: 'names another member or timeline only at a higher epoch',
  },
  { name: 'no authority any more', patch: { authority: null }, message: 'status.authority is never taken away' },
  { name: 'no membership any more', patch: { membership: null }, message: 'status.membership is never taken away' },
  {
    name: 'a shorter history',
    patch: { history: history.slice(1) },
    message: 'status.history never gets shorter',
  },
  {
    name: 'another membership of the same generation',
    patch: { membership: { ...recordedStatus.membership, members: members.slice(0, 1) } },
    message: 'status.membership changes only with a higher generation',
  },
  {
    name: 'fewer acknowledgements of the same generation',
    patch: { membership: { ...recordedStatus.membership, acknowledgements: 0 } },
    message: 'status.membership changes only with a higher generation',
  },
  {
    name: 'a generation that goes back',
    patch: { membership: { ...recordedStatus.membership, generation: 4 } },
    message: 'status.membership.generation never goes back',
  },
  {
    name: 'the same life of a member twice',
    patch: { membership: { ...recordedStatus.membership, generation: 6, members: [...members, members[0]] } },
    message: 'Duplicate value',
  },
  {
    name: 'a state that there is not',
    patch: { authority: { ...authority, state: 'Paused' } },
    message: 'supported values: "Initialising", "Active", "Stopping"',
  },
  {
    name: 'a handover to nobody in particular',
    patch: { authority: { ...authority, state: 'Stopping', target: { name: 'a-us-0' } } },
    message: 'incarnation: Required value',
  },
  {
    name: 'a handover that is announced',
    patch: { authority: { ...authority, state: 'Stopping', target: members[1] } },
    message: undefined,
  },
  {
    name: 'another primary at a higher epoch',
    patch: { authority: { ...authority, epoch: 4, timeline: 4, member: 'a-us-0', incarnation } },
    message: undefined,
  },
  {
    name: 'two lives of a member side by side',
    patch: {
      membership: {
        ...recordedStatus.membership,
        generation: 6,
        members: [...members, { name: 'a-us-0', incarnation: other }],
      },
    },
    message: undefined,
  },
];
