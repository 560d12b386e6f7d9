import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deadline } from '../../core/deadline.ts'
import { CodedError, errnoOf } from '../../core/errors.ts'
import { jsonMembers, jsonObject } from './json-members.ts'

/** setTimeout's longest; longer ones would be over at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1
const SHOWN_COMMAND = 120

/** A command in a container, for messages. */
export function describe(
  { id }: { readonly id: string },
  { command }: { readonly command: readonly string[] },
): string {
  return `exec ${shown(command)} in container ${id}`
}

/**
 * What the bundle says of the container's first process.
 * @throws CodedError `FailedPrecondition` when there is no bundle.
 */
export async function containerProcess(record: {
  readonly id: string
  readonly bundleDir: string
}): Promise<Map<string, string>> {
  let config: string
  try {
    config = await readFile(join(record.bundleDir, 'config.json'), 'utf8')
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    throw new CodedError('FailedPrecondition', `exec in container ${record.id}: it has no bundle`, { cause: error })
  }
  return jsonMembers(jsonMembers(config).get('process') ?? '{}')
}

/** A command as a process of the runtime spec, with the user, environment and rights of the container's first. */
export function processOf(process: ReadonlyMap<string, string>, command: readonly string[], terminal: boolean): string {
  const members = new Map(process)
  members.delete('consoleSize')
  if (terminal) members.set('env', withTerm(members.get('env')))
  return jsonObject(members.set('terminal', String(terminal)).set('args', JSON.stringify(command)))
}

/** A signal that aborts at the timeout as well; 0 is none. */
export function timeLimit(
  what: string,
  timeoutMs: number,
  signal: AbortSignal,
): Disposable & { readonly signal: AbortSignal } {
  if (timeoutMs === 0) return { signal, [Symbol.dispose]: () => undefined }
  return deadline(`${what}: timeout`, Math.min(timeoutMs, MAX_TIMEOUT_MS), signal)
}

/** What every terminal emulator understands, unless the container says otherwise. */
function withTerm(env: string | undefined): string {
  const variables = JSON.parse(env ?? '[]') as string[]
  const hasTerm = variables.some((variable) => variable.startsWith('TERM='))
  return JSON.stringify(hasTerm ? variables : [...variables, 'TERM=xterm'])
}

function shown(command: readonly string[]): string {
  const text = JSON.stringify(command.join(' '))
  return text.length > SHOWN_COMMAND ? `${text.slice(0, SHOWN_COMMAND)}…"` : text
}
