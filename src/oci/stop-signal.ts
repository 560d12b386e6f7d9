import { constants } from 'node:os'
import { invalidField } from '../core/errors.ts'
import type { ContainerConfig__Output } from '../generated/runtime/v1/ContainerConfig.ts'
import { Signal } from '../generated/runtime/v1/Signal.ts'

const DEFAULT_STOP_SIGNAL = 'SIGTERM'
/** As glibc and every other container tool count them. */
const RTMIN = 34
const RTMAX = 64
/** Up to here they are counted from RTMIN, then from RTMAX: each has one name, that of the CRI. */
const RTMIDDLE = RTMIN + 15

const NUMBERS: ReadonlyMap<string, number> = new Map<string, number>([
  ...Object.entries(constants.signals),
  ['SIGCLD', constants.signals.SIGCHLD],
  ...Array.from({ length: RTMAX - RTMIN + 1 }, (_, at) => [realTimeName(RTMIN + at), RTMIN + at] as const),
])

/**
 * The name of the signal that asks a container to end: the container's, the image's or SIGTERM. Real-time signals are
 * `SIGRTMIN+3` or `SIGRTMAX-2`; {@link signalNumber} has the number of each.
 *
 * @param imageStopSignal as the image has it: `SIGQUIT`, `quit`, `3`, `SIGRTMIN+3`, or `''`.
 * @throws CodedError `InvalidArgument` for one that is not known: a container that cannot be stopped must not start.
 */
export function stopSignalOf(config: ContainerConfig__Output, imageStopSignal: string): string {
  const { stop_signal: asked } = config
  if (asked !== 'SIGNAL_RUNTIME_DEFAULT') {
    const name = String(asked)
      .replace(/^SIGNAL_/, '')
      .replace('PLUS', '+')
      .replace('MINUS', '-')
    if (Object.hasOwn(Signal, asked) && NUMBERS.has(name)) return name
    throw invalidField('config.stop_signal', `not known: ${String(asked).slice(0, 80)}`)
  }
  if (imageStopSignal === '') return DEFAULT_STOP_SIGNAL
  const name = canonicalName(imageStopSignal)
  if (name !== undefined) return name
  throw invalidField('stop signal of the image', `not known: ${JSON.stringify(imageStopSignal.slice(0, 80))}`)
}

/** The number of a signal that {@link stopSignalOf} named; undefined for any other text. */
export function signalNumber(name: string): number | undefined {
  return NUMBERS.get(name)
}

function canonicalName(text: string): string | undefined {
  if (/^[0-9]{1,2}$/.test(text)) return [...NUMBERS].find(([, number]) => number === Number(text))?.[0]
  const upper = text.toUpperCase()
  const name = upper.startsWith('SIG') ? upper : `SIG${upper}`
  const realTime = /^SIGRTM(IN\+|AX-)([0-9]{1,2})$/.exec(name)
  if (realTime === null) return NUMBERS.has(name) ? name : undefined
  const number = realTime[1] === 'IN+' ? RTMIN + Number(realTime[2]) : RTMAX - Number(realTime[2])
  return number < RTMIN || number > RTMAX ? undefined : realTimeName(number)
}

function realTimeName(number: number): string {
  if (number <= RTMIDDLE) return number === RTMIN ? 'SIGRTMIN' : `SIGRTMIN+${number - RTMIN}`
  return number === RTMAX ? 'SIGRTMAX' : `SIGRTMAX-${RTMAX - number}`
}
