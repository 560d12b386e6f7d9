import { closeSync, constants, existsSync, openSync } from 'node:fs'
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { ContainerLogs } from '../../../src/executor/attach/logs.ts'
import { loadLibc, MNT_DETACH } from '../../../src/host/libc.ts'

/** Lets whoever opens a file wait until it is disposed of: a file system of which the server never answers. */
function hanging(path: string): Disposable {
  const libc = loadLibc()
  const server = openSync('/dev/fuse', constants.O_RDWR)
  libc.mount('none', path, 'fuse', 0, `fd=${server},rootmode=100000,user_id=0,group_id=0`)
  return {
    [Symbol.dispose]() {
      libc.umount(path, MNT_DETACH)
      closeSync(server)
    },
  }
}

it.skipIf(!existsSync('/dev/fuse')).each([
  ['when it is attached', false],
  ['when the container has ended', true],
])('a client is told that the log hangs %s, and others can follow theirs', async (_, attached) => {
  const directory = await mkdtemp(join(tmpdir(), 'log-'))
  const logs = new ContainerLogs({ timeoutMs: 500 })
  const signal = AbortSignal.timeout(20_000)
  const follow = (name: string) =>
    logs.follow({ path: join(directory, name), monitorPid: null, streams: ['stdout'] }, signal)
  try {
    await Promise.all(['hangs', 'other'].map((name) => writeFile(join(directory, name), '')))
    const followed = attached ? await follow('hangs') : undefined
    {
      using _hanging = hanging(join(directory, 'hangs'))
      if (followed) {
        const [stream] = followed.streams
        const told = new Promise((resolve) => {
          stream?.on('error', resolve).resume()
        })
        // By then it has been looked at.
        await sleep(1500)
        followed.end()
        expect(await told).toMatchObject({ code: 'Unavailable' })
      } else {
        await expect(follow('hangs')).rejects.toMatchObject({ code: 'Unavailable' })
      }
    }
    const [other] = (await follow('other')).streams
    await appendFile(join(directory, 'other'), '2026-11-21T09:22:03.123456789+00:00 stdout F one\n')
    expect(String((await other?.iterator().next())?.value)).toBe('one\n')
    other?.destroy()
  } finally {
    await logs[Symbol.asyncDispose]()
    await rm(directory, { recursive: true })
  }
})
