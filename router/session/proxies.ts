/** Who is trusted to say, with a PROXY protocol header, for whom it connects: the load balancers in front of this router. */
import { BlockList, isIP, isIPv6 } from 'node:net';

export class Proxies {
  readonly #list = new BlockList();

  /** @throws RangeError naming what is neither an address nor a range of them (`10.0.0.0/8`). */
  constructor(ranges: readonly string[]) {
    for (const range of ranges) {
      const [address = '', bits, ...more] = range.split('/');
      const family = isIPv6(address) ? 'ipv6' : 'ipv4';
      const most = family === 'ipv6' ? 128 : 32;
      const prefix = bits === undefined ? most : Number(bits);
      if (isIP(address) === 0 || more.length > 0 || bits === '' || !(Number.isInteger(prefix) && prefix <= most))
        throw new RangeError(`"${range}" is no address and no range of addresses`);
      this.#list.addSubnet(address, prefix, family);
    }
  }

  /** An IPv4 address counts in its IPv6 spelling (`::ffff:10.0.0.1`), too, which is how a socket of both families says it. */
  has(address: string): boolean {
    return isIP(address) !== 0 && this.#list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
  }
}
