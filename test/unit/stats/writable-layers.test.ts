import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import type { RunProgram, RunResult } from '../../../src/host/programs/outcome.ts'
import { WritableLayers } from '../../../src/stats/writable-layers.ts'

const never = new AbortController().signal
const logger = pino({ level: 'silent' })

function layersOver(run: RunProgram, intervalMs = 60_000) {
  return new WritableLayers({ intervalMs }, { run, logger })
}

/** `du` for directories of the size that `sizes` tells; others are not there. */
function fakeDu(sizes: Readonly<Record<string, number>>): RunProgram & { calls: (readonly string[])[] } {
  const calls: (readonly string[])[] = []
  const run = async (_file: string, args: readonly string[]): Promise<RunResult> => {
    calls.push(args)
    const found = args.slice(args.indexOf('--') + 1).flatMap((path) => {
      const size = sizes[path]
      if (size === undefined) return []
      return [`${args.includes('--inodes') ? size / 4096 : size}\t${path}\0`]
    })
    return { exitCode: 1, stdout: found.join(''), stderr: '' }
  }
  return Object.assign(run, { calls })
}

describe('WritableLayers', () => {
  it('measures all in one run, tabs and line ends in paths included, and leaves out what vanished', async () => {
    const du = fakeDu({ '/a\tb\n': 8192, '/c': 4096 })
    await using layers = layersOver(du)
    const targets = [
      { id: '1', upperDir: '/a\tb\n' },
      { id: '2', upperDir: '/c' },
      { id: '3', upperDir: '/gone' },
      { id: '4', upperDir: '' },
    ]
    await layers.refresh(targets, never)
    expect(layers.usage('1')).toMatchObject({ usedBytes: 8192, inodesUsed: 2 })
    expect(layers.usage('2')).toMatchObject({ usedBytes: 4096, inodesUsed: 1 })
    expect([layers.usage('3'), layers.usage('4')]).toEqual([null, null])
    expect(du.calls).toHaveLength(2)
  })

  it('does not measure again before its time', async () => {
    const du = fakeDu({ '/a': 4096 })
    await using layers = layersOver(du)
    await layers.refresh([{ id: '1', upperDir: '/a' }], never)
    await layers.refresh([{ id: '1', upperDir: '/a' }], never)
    expect(du.calls).toHaveLength(2)
  })

  it('lets nobody wait for one that hangs, and ends it when it is closed', async () => {
    let ended = false
    const layers = layersOver(
      (_file, _args, { signal }) =>
        new Promise((_, reject) => {
          signal?.addEventListener('abort', () => {
            ended = true
            reject(new CodedError('Canceled', 'closed'))
          })
        }),
    )
    await layers.refresh([{ id: '1', upperDir: '/hangs' }], never)
    expect(layers.usage('1')).toBe(null)
    await layers[Symbol.asyncDispose]()
    expect(ended).toBe(true)
  })

  it('measures the others of a run that took too long one by one', async () => {
    const du = fakeDu({ '/a': 4096, '/b': 8192 })
    const run: RunProgram = async (file, args, options) => {
      if (args.includes('/huge')) throw new CodedError('DeadlineExceeded', 'too long')
      return await du(file, args, options)
    }
    await using layers = layersOver(run)
    const targets = ['/a', '/huge', '/b'].map((upperDir) => ({ id: upperDir, upperDir }))
    await layers.refresh(targets, never)
    expect(targets.map(({ id }) => layers.usage(id)?.usedBytes)).toEqual([4096, undefined, 8192])
  })
})
