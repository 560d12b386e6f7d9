import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type PullState, PullTrack } from '../../../src/image/pull-progress.ts'

describe('PullTrack', () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sbx-track-'))
  })
  afterEach(async () => await rm(dir, { recursive: true, force: true }))

  it('tells what has come, and nothing twice', async () => {
    const track = new PullTrack()
    const told: PullState[] = []
    expect(track.isWatched).toBe(false)
    using _watching = track.watch((state) => told.push(state))
    expect(track.isWatched).toBe(true)
    {
      using _download = track.download(dir, 100)
      await mkdir(join(dir, 'storage1'))
      await writeFile(join(dir, 'storage1/1'), 'x'.repeat(40))
      await vi.waitFor(() => expect(told.at(-1)).toEqual({ stage: 'download', doneBytes: 40, totalBytes: 100 }))
      // What has come stays come.
      await rm(join(dir, 'storage1/1'))
      await writeFile(join(dir, 'storage1/2'), 'x'.repeat(120))
      await vi.waitFor(() => expect(told.at(-1)).toEqual({ stage: 'store', doneBytes: 100, totalBytes: 100 }))
    }
    track.store()
    expect(told).toEqual([
      { stage: 'resolve', doneBytes: 0, totalBytes: null },
      { stage: 'download', doneBytes: 0, totalBytes: 100 },
      { stage: 'download', doneBytes: 40, totalBytes: 100 },
      { stage: 'store', doneBytes: 100, totalBytes: 100 },
    ])
  })

  it('tells bytes where the whole is not known, and a late watcher the state of things', async () => {
    const track = new PullTrack()
    using _download = track.download(join(dir, 'not-there'), null)
    track.store()
    const told: PullState[] = []
    track.watch((state) => told.push(state))[Symbol.dispose]()
    track.download(dir, 7)[Symbol.dispose]()
    expect(told).toEqual([{ stage: 'store', doneBytes: 0, totalBytes: null }])
    expect(track.isWatched).toBe(false)
  })
})
