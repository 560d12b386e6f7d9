import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { makeDirectories } from '../../../src/daemon/directories.ts'

it('makes what is missing, and lets others through to root file systems and sockets, and nowhere else', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sandboxerd-dirs-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const [root, state] = [join(dir, 'lib'), join(dir, 'run')]
  const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)
  await makeDirectories({ root, state })
  chmodSync(join(state, 'sandboxes'), 0o777)
  await makeDirectories({ root, state })
  for (const path of [root, state, join(state, 'containers')]) expect(modeOf(path), path).toBe('711')
  for (const path of [
    join(root, 'sandboxes'),
    join(root, 'containers'),
    join(state, 'sandboxes'),
    join(state, 'exits'),
  ]) {
    expect(modeOf(path), path).toBe('700')
  }
})
