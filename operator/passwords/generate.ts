/**
 * Fresh passwords and salts from the system's random source. The only impure file of this folder.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { defaultIterations, type ScramParameters, saltBytes } from './verifier.ts';

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const passwordCharacters = 32;

/** 190 random bits in letters and digits, which need no escaping in a URI, a shell or a properties file. */
export const generatePassword = (): string =>
  Array.from({ length: passwordCharacters }, () => alphabet[randomInt(alphabet.length)]).join('');

export const generateParameters = (): ScramParameters => ({
  salt: randomBytes(saltBytes),
  iterations: defaultIterations,
});
