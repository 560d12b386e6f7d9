import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CheckpointStages, PARTIAL_SUFFIX } from '../../../src/container/checkpoint/stages.ts'
import { CodedError } from '../../../src/core/errors.ts'
import type { ContainerRecord } from '../../../src/executor/types.ts'

let root = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'sandboxerd-stages-'))
})
afterEach(async () => rm(root, { recursive: true }))

const record = (id: string): ContainerRecord => ({
  id,
  runtime: { path: '/usr/sbin/runc', root: '/run/r', systemdCgroup: false },
  bundleDir: `/b/${id}`,
  cgroupsPath: `/pods/${id}`,
  ownedCgroupParents: [],
})

/** Stages of a daemon that does not live long. */
function stages() {
  const thawed: string[] = []
  const removed: string[] = []
  const made = new CheckpointStages(
    { root },
    {
      processes: { thaw: async ({ id }) => void thawed.push(id) },
      executed: {
        parse: (given) => {
          const found = given as ContainerRecord
          if (found.id === 'foreign') throw new CodedError('DataLoss', 'not one of ours')
          return found
        },
      },
      run: async (file, args) => {
        removed.push([file, ...args].join(' '))
        return { exitCode: 0, stdout: '', stderr: '' }
      },
      logger: pino({ level: 'silent' }),
    },
  )
  return { stages: made, thawed, removed }
}

const left = (): Promise<string[]> => readdir(join(root, 'checkpoints'))

describe('CheckpointStages', () => {
  it('leaves nothing of a stage that is disposed of', async () => {
    const { stages: ours } = stages()
    {
      await using stage = await ours.open()
      await writeFile(join(stage.path, 'pages.img'), 'x')
      expect(await left()).toHaveLength(1)
    }
    expect(await left()).toEqual([])
  })

  it('thaws and removes what a daemon has left that died', async () => {
    const partial = `/out/checkpoint.tar.0${PARTIAL_SUFFIX}`
    const stage = await stages().stages.open({ frozen: [record('a'), record('b')], partial })
    await mkdir(join(stage.path, 'files'))
    const next = stages()
    await next.stages.sweep()
    expect(next.thawed).toEqual(['a', 'b'])
    await expect.poll(left).toEqual([])
    expect(next.removed).toEqual([`/bin/rm -f -- ${partial}`])
  })

  it('removes no file that it cannot have made, and touches no container that is not ours', async () => {
    await stages().stages.open({ frozen: [], partial: '/etc/passwd' })
    const foreign = await stages().stages.open({ frozen: [record('foreign')], partial: '' })
    await mkdir(join(root, 'checkpoints', 'empty'))
    const next = stages()
    await next.stages.sweep()
    // The one with a record that is not ours is left for people to look at.
    await expect.poll(left).toEqual([foreign.path.split('/').at(-1)])
    expect(next.thawed).toEqual([])
    expect(next.removed).toEqual([])
  })

  it('has nothing to do where there was none', async () => {
    await expect(stages().stages.sweep()).resolves.toBeUndefined()
  })
})
