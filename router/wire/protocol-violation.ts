/** A peer that does not speak the protocol: the connection ends, with SQLSTATE 08P01 to a client. */
export class ProtocolViolation extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ProtocolViolation';
  }
}
