import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, describe, it, onTestFinished } from 'vitest'
import { findShimProcesses, isShimOf, listShims } from '../../../../src/executor/shim/shim-process.ts'
import type { ShimRecord } from '../../../../src/executor/shim/types.ts'
import { readBootId } from '../../../../src/host/process.ts'

const ID = 'ab'.repeat(32)

/** A process with the command line of a shim, and who finds it when it has it. */
async function pretend(uid: number): Promise<{ readonly found: number; readonly isKnown: boolean; listed: string[] }> {
  const state = mkdtempSync(join(tmpdir(), 'sbx-shim-'))
  const ownerAddress = join(state, 'events.sock')
  const code = 'console.log(1); setInterval(() => {}, 1e6)'
  const args = ['-e', code, '--', '-namespace', 'k8s.io', '-id', ID, '-address', ownerAddress]
  const child = spawn(process.execPath, args, { uid, stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => {
    child.kill('SIGKILL')
    rmSync(state, { recursive: true })
  })
  await once(child.stdout, 'data')
  const task = { id: ID, bundleDir: join(state, ID) }
  const record: ShimRecord = {
    ...task,
    task,
    namespace: 'k8s.io',
    binary: process.execPath,
    ownerAddress,
    eventsAddress: ownerAddress,
    netnsPath: '',
    options: null,
  }
  return {
    found: findShimProcesses(record, readBootId()).length,
    isKnown: isShimOf(record, child.pid ?? 0),
    listed: listShims(ownerAddress).map(({ id }) => id),
  }
}

describe.skipIf(process.getuid?.() !== 0)('shims', () => {
  it('are found by what they are called with', async () => {
    expect(await pretend(0)).toEqual({ found: 1, isKnown: true, listed: [ID] })
  })

  it('are none of another user, who may call himself anything', async () => {
    expect(await pretend(65534)).toEqual({ found: 0, isKnown: false, listed: [] })
  })
})
