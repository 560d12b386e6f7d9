import { closeSync, constants, openSync, readdirSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { appendFile, mkdir, mkdtemp, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LogCursor } from '../../../src/executor/attach/log-cursor.ts'
import { FollowedLog } from '../../../src/executor/attach/log.ts'
import { O_PATH } from '../../../src/host/libc.ts'

const line = (text: string, stream = 'stdout'): string => `2026-11-21T09:22:03.123456789+00:00 ${stream} F ${text}\n`

let directory: string
let path: string
let logs: FollowedLog[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'log-'))
  path = join(directory, '0.log')
  logs = []
  await writeFile(path, line('before'))
})
afterEach(async () => {
  for (const log of logs) log[Symbol.dispose]()
  await rm(directory, { recursive: true })
})

function follow(monitorPid: number | null = null): FollowedLog {
  const log = new FollowedLog({ path, monitorPid })
  logs.push(log)
  return log
}

async function next(cursor: LogCursor): Promise<string | null> {
  const chunk = await cursor.read()
  return chunk && Buffer.from(chunk).toString()
}

/** Everything to the end. */
async function rest(cursor: LogCursor): Promise<string> {
  cursor.end()
  const chunks: string[] = []
  for (let chunk = await next(cursor); chunk !== null; chunk = await next(cursor)) chunks.push(chunk)
  return chunks.join('')
}

/** As conmon does it when its log is full, or when it is told that it was renamed. */
async function replace(content: string): Promise<void> {
  await writeFile(`${path}.tmp`, '')
  await rename(`${path}.tmp`, path)
  await appendFile(path, content)
}

describe('a followed log', () => {
  it('tells what is written as it comes, each client what it asked for', async () => {
    const log = follow()
    const [out, err] = [log.cursor('stdout'), log.cursor('stderr')]
    const [first, second] = [next(out), next(err)]
    await appendFile(path, line('one') + line('two', 'stderr'))
    expect([await first, await second]).toEqual(['one\n', 'two\n'])
  })

  it('begins with the record that is being written', async () => {
    const [begin, end] = [line('whole').slice(0, -2), line('whole').slice(-2)]
    await appendFile(path, begin)
    const cursor = follow().cursor('stdout')
    const text = rest(cursor)
    await appendFile(path, end)
    expect(await text).toBe('whol')
    expect(await rest(cursor)).toBe('e\n')
  })

  it('goes on in a new file when the old one has been read, also what was written last', async () => {
    const cursor = follow().cursor('stdout')
    const old = openSync(path, 'a')
    await rename(path, `${path}.1`)
    writeSync(old, line('one'))
    expect(await next(cursor)).toBe('one\n')
    writeSync(old, line('two'))
    closeSync(old)
    await replace(line('three'))
    await rename(path, `${path}.2`)
    await replace(line('four'))
    expect(await rest(cursor)).toBe('two\nthree\nfour\n')
  })

  it('is found by its monitor while there is nothing at its path', async () => {
    const old = openSync(path, 'a')
    await rename(path, `${path}.1`)
    const cursor = follow(process.pid).cursor('stdout')
    writeSync(old, line('one'))
    closeSync(old)
    expect(await next(cursor)).toBe('one\n')
    await replace(line('two'))
    expect(await next(cursor)).toBe('two\n')
  })

  it('is found at its path when what its monitor had open there cannot be opened any more', async () => {
    // Like a descriptor that was closed meanwhile, one of a link can be named and not opened.
    await symlink(path, `${path}.link`)
    const link = openSync(`${path}.link`, O_PATH | constants.O_NOFOLLOW)
    const cursor = follow(process.pid).cursor('stdout')
    closeSync(link)
    await appendFile(path, line('one'))
    expect(await next(cursor)).toBe('one\n')
  })

  it('begins anew when it was cut', async () => {
    const cursor = follow().cursor('stdout')
    await truncate(path)
    await appendFile(path, line('a'))
    expect(await next(cursor)).toBe('a\n')
  })

  it('is refused when it is a link, missing or no file, and not followed into one', async () => {
    const cursor = follow().cursor('stdout')
    await rename(path, `${path}.1`)
    expect(() => follow()).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
    await symlink(`${path}.1`, path)
    expect(() => follow()).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
    expect(await rest(cursor)).toBe('')
    await rm(path)
    await mkdir(path)
    expect(() => follow()).toThrow(expect.objectContaining({ code: 'FailedPrecondition' }))
  })

  it('says so when it was begun anew too quickly', async () => {
    const cursor = follow().cursor('stdout')
    // Nobody can look in between.
    for (const text of ['lost', 'seen']) {
      writeFileSync(`${path}.tmp`, line(text))
      renameSync(`${path}.tmp`, path)
    }
    const read = async (): Promise<void> => {
      while ((await next(cursor)) !== null);
    }
    await expect(read()).rejects.toMatchObject({ code: 'DataLoss' })
  })

  it('is not too long for those who have read it when it is rotated, however long it is', async () => {
    await truncate(path, 100 * 1024 * 1024)
    await appendFile(path, `\n${line('before')}`)
    const log = follow()
    const [cursor, slow] = [log.cursor('stdout'), log.cursor('stdout')]
    await appendFile(path, line('last'))
    await rename(path, `${path}.1`)
    await replace(line('first'))
    log.look()
    expect([await next(cursor), await next(cursor)]).toEqual(['last\n', 'first\n'])
    await truncate(path, 100 * 1024 * 1024)
    await rename(path, `${path}.2`)
    await replace(line('next'))
    log.look()
    await expect(slow.read()).rejects.toMatchObject({ code: 'ResourceExhausted' })
  })

  it('keeps old files for those who have not read them, and not without end', async () => {
    const log = follow()
    const [slow, quick] = [log.cursor('stdout'), log.cursor('stdout')]
    const before = readdirSync('/proc/self/fd').length
    const rotate = async (count: number): Promise<void> => {
      for (let round = 0; round < count; round++) {
        await rename(path, `${path}.1`)
        await writeFile(path, line(`${round}`))
        log.look()
        expect(await next(quick)).toBe(`${round}\n`)
      }
    }
    await rotate(60)
    expect(readdirSync('/proc/self/fd').length - before).toBe(60)
    expect(await next(slow)).toBe('0\n')
    await rotate(10)
    await expect(slow.read()).rejects.toMatchObject({ code: 'ResourceExhausted' })
    expect(readdirSync('/proc/self/fd').length - before).toBe(0)
  })
})
