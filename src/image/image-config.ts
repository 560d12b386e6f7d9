import { constants } from 'node:os'
import { CodedError } from '../core/errors.ts'

/** How the program of an image is run and made to quit. */
export interface ImageProgram {
  readonly args: readonly string[]
  readonly stopSignal: keyof typeof constants.signals
}

/** The architectures of Node by their names in images (those of Go). */
export const GO_ARCHITECTURE: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  s390x: 's390x',
}

/**
 * What to run, from an image configuration (image-spec 1.0, config.md).
 * @throws CodedError `FailedPrecondition` that says what of it cannot be run.
 */
export function imageProgram(image: unknown, arch: string = process.arch): ImageProgram {
  const { config, architecture, os } = (image ?? {}) as { config?: unknown; architecture?: unknown; os?: unknown }
  if (os !== undefined && os !== 'linux') throw absurd(`it is made for ${JSON.stringify(os)}, not for linux`)
  const wanted = GO_ARCHITECTURE[arch]
  if (wanted !== undefined && architecture !== undefined && architecture !== wanted) {
    throw absurd(`it is made for ${JSON.stringify(architecture)}, and this node is ${wanted}`)
  }
  const given = (config ?? {}) as { Entrypoint?: unknown; Cmd?: unknown; StopSignal?: unknown }
  const args = [...texts('Entrypoint', given.Entrypoint), ...texts('Cmd', given.Cmd)]
  if (args.length === 0 || args[0] === '') throw absurd('it names no command (Entrypoint, Cmd)')
  return { args, stopSignal: stopSignal(given.StopSignal ?? '') }
}

function texts(key: string, value: unknown): string[] {
  const list: unknown = value ?? []
  if (isTexts(list) && !list.some((text) => text.includes('\0'))) return list
  throw absurd(`${key} is not a list of arguments`)
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((member) => typeof member === 'string')
}

/** A name with or without SIG, or a number. */
function stopSignal(value: unknown): ImageProgram['stopSignal'] {
  if (value === '') return 'SIGTERM'
  const text = String(value).toUpperCase()
  const found = Object.entries(constants.signals).find(
    ([name, number]) => name === text || name === `SIG${text}` || String(number) === text,
  )
  if (found) return found[0] as ImageProgram['stopSignal']
  throw absurd(`StopSignal ${JSON.stringify(value)} is not a signal`)
}

function absurd(why: string): CodedError {
  return new CodedError('FailedPrecondition', `its configuration cannot be run: ${why}`)
}
