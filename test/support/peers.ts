import { join } from 'node:path'
import { onPath } from './on-path.ts'

/**
 * The programs of others that tests talk to. scripts/test.sh fetches them and names their directories in the environment;
 * otherwise those on PATH are taken. Whoever finds none skips, and that is said aloud here, since a skipped test says nothing.
 */

const SHIM = 'containerd-shim-runc-v2'
const told = new Set<string>()

/** containerd's shim of the newest kind, whose `start` answers with JSON (bootstrap protocol 3). */
export function findShim(): string | undefined {
  return find(SHIM, 'SANDBOXERD_TEST_SHIMS', 'shims')
}

/** The shim of containerd 1.6, whose `start` answers with a bare address (bootstrap protocol 2); never one from PATH. */
export function findShimV2(): string | undefined {
  return find(SHIM, 'SANDBOXERD_TEST_SHIMS_V2', 'shims of bootstrap protocol 2', false)
}

/** A containerd that takes sandboxers: 2.0 or newer, with its shim and its ctr beside it. */
export function findContainerd(): string | undefined {
  return find('containerd', 'SANDBOXERD_TEST_CONTAINERD', 'containerd', false)
}

function find(program: string, variable: string, what: string, orOnPath = true): string | undefined {
  const dir = process.env[variable] ?? ''
  const found = dir === '' ? (orOnPath ? onPath(program) : undefined) : onPath(program, dir)
  if (found === undefined && !told.has(variable)) {
    told.add(variable)
    const where = dir === '' ? `${variable} names no directory` : `there is no ${join(dir, program)}`
    process.emitWarning(`${where} (scripts/peers.sh fetches one): tests with ${what} are skipped`)
  }
  return found
}
