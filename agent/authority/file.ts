/** The Shard as a JSON file: for tests that run members without a cluster. */
import { readFile } from 'node:fs/promises';
import { type AuthoritySource, type ShardAuthority, shardAuthoritySchema } from './source.ts';

export class FileAuthority implements AuthoritySource {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async read(): Promise<ShardAuthority | undefined> {
    try {
      return shardAuthoritySchema.parse(JSON.parse(await readFile(this.#path, 'utf8')));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}
