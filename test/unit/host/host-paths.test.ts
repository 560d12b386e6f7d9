import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { isNamespaceAt } from '../../../src/host/host-paths.ts'
import type { RunProgram } from '../../../src/host/programs/outcome.ts'
import { run } from '../../../src/host/programs/run.ts'

describe('whether a namespace is at a path that a caller chose', () => {
  it.each([
    ['/proc/self/ns/net', true],
    ['/etc/hostname', false],
    ['/no/such/path', false],
    ['/run/no-such-namespace', false],
    [`/run/${'x'.repeat(300)}`, false],
    ['--version', false],
  ])('at %s is told as %s', async (path, expected) => {
    expect(await isNamespaceAt(path, run)).toBe(expected)
  })

  it('is asked of a program that is ended when the file system hangs', async () => {
    const limits: number[] = []
    const hangs: RunProgram = async (_file, _args, { timeoutMs }) => {
      limits.push(timeoutMs)
      throw new CodedError('DeadlineExceeded', 'run stat: it takes too long')
    }
    await expect(isNamespaceAt('/mnt/far/netns', hangs)).rejects.toMatchObject({ code: 'DeadlineExceeded' })
    expect(limits).toEqual([10_000])
  })
})
