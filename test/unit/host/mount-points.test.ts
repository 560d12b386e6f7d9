import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { mountPoints, mountPointsIn } from '../../../src/host/mount-points.ts'

const line = (path: string): string => `36 35 98:0 /mnt1 ${path} rw,noatime master:1 - ext3 /dev/root rw`

describe('mountPointsIn', () => {
  it('tells what is below a directory, not that itself and not what only begins like it', () => {
    const text = ['/run/a', '/run/a/shm', '/run/ab/shm', '/'].map(line).join('\n')
    expect(mountPointsIn(text, '/run/a')).toEqual(['/run/a/shm'])
  })

  it('undoes what the kernel does to white space', () => {
    expect(mountPointsIn(line('/run/a\\040b/c\\134d'), '/run/a b')).toEqual(['/run/a b/c\\d'])
  })
})

describe('mountPoints', () => {
  it('finds what is mounted below a link to a directory, by the path that was asked for', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sbx-mounts-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    symlinkSync('/sys', join(directory, 'link'))
    const below = await mountPoints('/sys')
    expect(below.length).toBeGreaterThan(0)
    expect(await mountPoints(join(directory, 'link'))).toEqual(
      below.map((path) => path.replace('/sys', join(directory, 'link'))),
    )
  })

  it('finds nothing below what is not there', async () => {
    expect(await mountPoints('/nowhere')).toEqual([])
  })
})
