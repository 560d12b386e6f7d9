import { constants } from 'node:os'
import { CodedError } from '../core/errors.ts'
import type { ImageRunConfig } from './types.ts'

/**
 * Reads what an image configuration (image-spec 1.1, config.md) says of how to run it.
 * @throws CodedError `FailedPrecondition` for one that is not what the specification says.
 */
export function toRunConfig(spec: unknown): ImageRunConfig {
  const { config, os } = recordOf('the configuration', spec)
  if (os !== undefined && os !== '' && os !== 'linux')
    throw absurd(`it is made for ${JSON.stringify(os)}, not for linux`)
  const given = recordOf('config', config ?? {})
  return {
    entrypoint: textsOf('Entrypoint', given['Entrypoint']),
    cmd: textsOf('Cmd', given['Cmd']),
    env: textsOf('Env', given['Env']),
    workingDir: textOf('WorkingDir', given['WorkingDir']),
    user: textOf('User', given['User']),
    stopSignal: stopSignal(given['StopSignal']),
    volumes: Object.keys(recordOf('Volumes', given['Volumes'] ?? {})).filter((path) => path.startsWith('/')),
    labels: labelsOf(given['Labels']),
  }
}

/** The digests of the layers that a configuration names, from the lowest. */
export function diffIdsOf(spec: unknown): readonly string[] {
  const { rootfs } = recordOf('the configuration', spec)
  return textsOf('rootfs.diff_ids', recordOf('rootfs', rootfs ?? {})['diff_ids'])
}

/** A name with or without SIG, a number, or a real-time signal; `''` where it is none: the usual one does then. */
function stopSignal(value: unknown): string {
  const text = typeof value === 'string' ? value.toUpperCase() : ''
  const name = text.startsWith('SIG') ? text : `SIG${text}`
  if (Object.hasOwn(constants.signals, name) || /^SIGRTM(?:IN|AX)(?:[+-]\d{1,2})?$/.test(name)) return name
  return Object.entries(constants.signals).find(([, number]) => String(number) === text)?.[0] ?? ''
}

function labelsOf(value: unknown): Readonly<Record<string, string>> {
  const entries = Object.entries(recordOf('Labels', value ?? {}))
  return Object.fromEntries(entries.map(([key, label]) => [key, textOf(`Labels[${key}]`, label)]))
}

function recordOf(key: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw absurd(`${key} is not an object`)
}

function textsOf(key: string, value: unknown): readonly string[] {
  const list: unknown = value ?? []
  if (!Array.isArray(list)) throw absurd(`${key} is not a list`)
  return list.map((item) => textOf(key, item))
}

function textOf(key: string, value: unknown): string {
  const text = value ?? ''
  if (typeof text !== 'string') throw absurd(`${key} is not text`)
  if (text.includes('\0')) throw absurd(`${key} holds a NUL`)
  return text
}

function absurd(why: string): CodedError {
  return new CodedError('FailedPrecondition', `its configuration cannot be used: ${why}`)
}
