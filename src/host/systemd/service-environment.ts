import { CodedError } from '../../core/errors.ts'

/** A listening socket that the service manager has opened, and holds open while we are away. */
export interface PassedSocket {
  readonly fd: number
  /** `FileDescriptorName=` of its unit; `unknown` where nobody says. */
  readonly name: string
}

/** What a service manager tells in the environment: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). */
export interface ServiceEnvironment {
  /** Where it wants to be told how we are: a path, or `@` and the name of an abstract socket. */
  readonly notifySocket: string | undefined
  /** It ends us when it has heard no sign of life for so long. */
  readonly watchdogMs: number | undefined
  readonly sockets: readonly PassedSocket[]
}

/** SD_LISTEN_FDS_START. */
const FIRST_FD = 3
/** `WatchdogSec=infinity`: no watchdog. */
const USEC_INFINITY = '18446744073709551615'
const VARIABLES = [
  'NOTIFY_SOCKET',
  'LISTEN_PID',
  'LISTEN_FDS',
  'LISTEN_FDNAMES',
  'LISTEN_PIDFDID',
  'WATCHDOG_PID',
  'WATCHDOG_USEC',
] as const

/**
 * Reads what the service manager says, and takes it out of the environment: it is for this process, and a program that we
 * start would speak in our name. What is meant for another pid is taken out, too, and not followed.
 *
 * @throws CodedError `InvalidArgument` for a variable that is not what the manual says.
 */
export function takeServiceEnvironment(env: NodeJS.ProcessEnv, pid: number): ServiceEnvironment {
  const given = Object.fromEntries(VARIABLES.map((name) => [name, env[name] ?? '']))
  for (const name of VARIABLES) Reflect.deleteProperty(env, name)
  const {
    NOTIFY_SOCKET = '',
    LISTEN_PID,
    LISTEN_FDS,
    LISTEN_FDNAMES = '',
    WATCHDOG_PID = '',
    WATCHDOG_USEC = '',
  } = given
  const count = LISTEN_PID === String(pid) ? wholeNumber('LISTEN_FDS', LISTEN_FDS) : 0
  const names = LISTEN_FDNAMES.split(':')
  const hasWatchdog = WATCHDOG_USEC !== '' && WATCHDOG_USEC !== USEC_INFINITY
  const isOurWatchdog = hasWatchdog && (WATCHDOG_PID === '' || WATCHDOG_PID === String(pid))
  return {
    notifySocket: isAddress(NOTIFY_SOCKET) ? NOTIFY_SOCKET : undefined,
    watchdogMs: isOurWatchdog ? wholeNumber('WATCHDOG_USEC', WATCHDOG_USEC) / 1000 : undefined,
    sockets: Array.from({ length: count }, (_, index) => ({ fd: FIRST_FD + index, name: names[index] || 'unknown' })),
  }
}

/** Others there are (`vsock:`) are for virtual machines that are told of as a whole. */
function isAddress(address: string): boolean {
  return /^[/@]./.test(address)
}

function wholeNumber(variable: string, text: string | undefined): number {
  const value = Number(text)
  if (/^\d+$/.test(text ?? '') && value > 0 && Number.isSafeInteger(value)) return value
  throw new CodedError(
    'InvalidArgument',
    `environment variable ${variable}: must be a number, not ${JSON.stringify(text)}`,
  )
}
