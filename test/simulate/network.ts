/**
 * How messages travel: at once or never, or (with delays) whenever they are delivered, in any order, perhaps twice or not at all.
 * A link is cut one way; what is under way on it when it is cut may still arrive.
 */
import { answer, fence, grant, hold, positionOnDisk, report, takeOrders } from './agent.ts';
import { store } from './api-server.ts';
import { onFenced, onPong, onStored } from './operator.ts';
import type { Rules } from './rules.ts';
import type { Message, World } from './world.ts';

/** More than this lie about only by accident of a long run: the oldest is lost. */
const maxMessages = 60;

export const isCut = (world: World, from: string, to: string): boolean => world.cuts.includes(`${from}>${to}`);

export const areLinked = (world: World, a: string, b: string): boolean => !isCut(world, a, b) && !isCut(world, b, a);

/** False where it can't even be sent. */
export function send(world: World, rules: Rules, message: Message): boolean {
  if (isCut(world, message.from, message.to)) return false;
  if (!world.shape.delays) return deliver(world, rules, message);
  world.messages.push(message);
  if (world.messages.length > maxMessages) world.messages.shift();
  return true;
}

/** False where nobody is there to take it, so that it is lost. */
export function deliver(world: World, rules: Rules, message: Message): boolean {
  const member = world.members[message.to];
  const operator = world.operators[message.to];
  if (member !== undefined && (!member.up || member.paused)) return false;
  if (operator !== undefined && !operator.up) return false;
  const reply = { from: message.to, to: message.from };
  switch (message.type) {
    case 'request':
      if (member !== undefined) grant(world, rules, member, message);
      return true;
    case 'grant':
      if (member !== undefined) hold(world, rules, member, message);
      return true;
    case 'flushed':
      if (member !== undefined) report(member, message);
      return true;
    case 'orders':
      if (member !== undefined) takeOrders(world, rules, member, message.orders);
      return true;
    case 'ping':
      if (member === undefined) return false;
      send(world, rules, {
        ...reply,
        type: 'pong',
        attempt: message.attempt,
        answer: answer(world, rules, member),
        position: positionOnDisk(member),
      });
      return true;
    case 'fence':
      if (member === undefined) return false;
      send(world, rules, {
        ...reply,
        type: 'fenced',
        attempt: message.attempt,
        member: `${message.question.member.name}/${message.question.member.incarnation}`,
        outcome: fence(world, rules, member, message.question),
      });
      return true;
    case 'put': {
      const took = store(world, message);
      send(world, rules, {
        ...reply,
        type: 'stored',
        attempt: message.attempt,
        took,
        snapshot: { record: world.api.record, version: world.api.version },
      });
      return true;
    }
    case 'pong':
      if (operator !== undefined) onPong(world, operator, message);
      return true;
    case 'fenced':
      if (operator !== undefined) onFenced(world, operator, message);
      return true;
    case 'stored':
      if (operator !== undefined) onStored(world, operator, message);
      return true;
    default:
      return message satisfies never;
  }
}
