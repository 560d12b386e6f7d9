import { invalidField } from '../core/errors.ts'
import type { StreamedExecRequest, StreamsWanted } from '../executor/types.ts'
import type { ExecRequest__Output } from '../generated/runtime/v1/ExecRequest.ts'
import { checkStrings } from './checks.ts'

/** What Linux allows for one argument (MAX_ARG_STRLEN), with the NUL that ends it. */
const MAX_ARGUMENT_BYTES = 128 * 1024
/** What Linux allows for all arguments under the usual limit of the stack; a request waits in memory for its client. */
const MAX_COMMAND_BYTES = 2 * 1024 * 1024
const MAX_PORTS = 1024

/** @throws CodedError `InvalidArgument` naming the field. */
export function validateExec(request: ExecRequest__Output): StreamedExecRequest {
  const { cmd: command, stdin, stdout, stderr, tty: terminal } = request
  if (command.length === 0 || command[0] === '') throw invalidField('cmd', 'must name a program')
  checkStrings('cmd', command)
  let commandBytes = 0
  for (const [at, argument] of command.entries()) {
    const bytes = Buffer.byteLength(argument) + 1
    if (bytes > MAX_ARGUMENT_BYTES) throw invalidField(`cmd[${at}]`, `longer than ${MAX_ARGUMENT_BYTES - 1} bytes`)
    commandBytes += bytes
  }
  if (commandBytes > MAX_COMMAND_BYTES) throw invalidField('cmd', `longer than ${MAX_COMMAND_BYTES} bytes`)
  validateStreams(request)
  return { command, stdin, stdout, stderr, terminal }
}

/** @throws CodedError `InvalidArgument` naming the field, for what no client could follow. */
export function validateStreams({ stdin, stdout, stderr, tty }: StreamsWanted & { readonly tty: boolean }): void {
  if (tty && stderr) throw invalidField('stderr', 'tty and stderr cannot both be true')
  if (!stdin && !stdout && !stderr) throw invalidField('stdin', 'one of stdin, stdout and stderr must be true')
}

/** @throws CodedError `InvalidArgument` for what is no TCP port. */
export function validatePorts(field: string, ports: readonly number[]): readonly number[] {
  if (ports.length > MAX_PORTS) throw invalidField(field, `more than ${MAX_PORTS} ports`)
  for (const [at, port] of ports.entries()) {
    if (port < 1 || port > 65_535) throw invalidField(`${field}[${at}]`, `${port} is not between 1 and 65535`)
  }
  return ports
}
