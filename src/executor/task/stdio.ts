import { rmSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError } from '../../core/errors.ts'
import { readTextIfAny, removeFile } from '../../host/files.ts'
import type { Libc } from '../../host/libc.ts'
import type { ContainerIo } from '../types.ts'
import type { OutputFifo } from './output-calls.ts'

const FIFO_MODE = 0o600
const NAMES = ['stdin', 'stdout', 'stderr'] as const
/** What {@link saveIo} writes, in the bundle directory. */
const IO_FILE = 'io.json'
/** Its input ends with its first client, and there was one. */
const INPUT_USED_FILE = 'stdin-used'

/** The FIFOs of a process, as a Task service is told of them; `''` is none. */
export interface Stdio {
  readonly terminal: boolean
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
}

export const NO_STDIO: Stdio = { terminal: false, stdin: '', stdout: '', stderr: '' }

/** Where the FIFOs of a process are to be; a terminal has no `stderr`. */
export function stdioIn(
  directory: string,
  { terminal, stdin }: { readonly terminal: boolean; readonly stdin: boolean },
): Stdio {
  const path = (name: string): string => join(directory, `${name}.fifo`)
  return {
    terminal,
    stdin: stdin ? path('stdin') : '',
    stdout: path('stdout'),
    stderr: terminal ? '' : path('stderr'),
  }
}

/** Those that are read from. */
export function outputFifos({ stdout, stderr }: Stdio): OutputFifo[] {
  const all: OutputFifo[] = [
    { stream: 'stdout', path: stdout },
    { stream: 'stderr', path: stderr },
  ]
  return all.filter(({ path }) => path !== '')
}

/** Makes the FIFOs, anew where an attempt has left some. */
export function makeFifos(libc: Libc, stdio: Stdio): void {
  for (const path of NAMES.map((name) => stdio[name]).filter((path) => path !== '')) {
    rmSync(path, { force: true })
    libc.mkfifo(path, FIFO_MODE)
  }
}

/** Removes what a container has in its bundle directory of {@link makeFifos} and {@link saveIo}. */
export async function removeStdio(bundleDir: string): Promise<void> {
  for (const name of NAMES) await removeFile(join(bundleDir, `${name}.fifo`))
  for (const name of [IO_FILE, INPUT_USED_FILE]) await removeFile(join(bundleDir, name))
}

/** Notes down what the next daemon has to know to go on with it. It need not outlive a crash of the node. */
export async function saveIo(bundleDir: string, io: ContainerIo): Promise<void> {
  const path = join(bundleDir, IO_FILE)
  await writeFile(`${path}.tmp`, JSON.stringify(io))
  await rename(`${path}.tmp`, path)
}

/** Notes down that a container has had a client whose input is its own: when that has gone, it ends. */
export async function noteInputUsed(bundleDir: string): Promise<void> {
  await writeFile(join(bundleDir, INPUT_USED_FILE), '')
}

export async function isInputUsed(bundleDir: string): Promise<boolean> {
  return (await readTextIfAny(join(bundleDir, INPUT_USED_FILE))) !== undefined
}

/** What {@link saveIo} has written; null without. @throws CodedError `DataLoss`. */
export async function loadIo(bundleDir: string): Promise<ContainerIo | null> {
  const path = join(bundleDir, IO_FILE)
  const text = await readTextIfAny(path)
  if (text === undefined) return null
  try {
    return JSON.parse(text) as ContainerIo
  } catch (error) {
    throw new CodedError('DataLoss', `read ${path}: it is no JSON`, { cause: error })
  }
}
