import { existsSync, mkdirSync, readFileSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { parseLog, text } from '../../support/container-log.ts'
import { sharedDaemon } from '../../support/daemon.ts'
import { eventually } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

const pod = (): Promise<TestPod> => TestPod.run(daemon())

describe('the log of a container', () => {
  it('has a time, a stream and a tag on each line', async () => {
    const own = await pod()
    const before = Date.now()
    const { status } = await own.run('echo one; echo two >&2; printf three')
    const lines = parseLog(readFileSync(status.log_path, 'utf8'))
    expect(
      lines
        .filter(({ stream }) => stream === 'stdout')
        .map(({ text: line }) => line)
        .join('|'),
    ).toMatch(/^one\|three/)
    expect(lines.filter(({ stream }) => stream === 'stderr')).toMatchObject([{ tag: 'F', text: 'two' }])
    for (const { time } of lines) {
      expect(Date.parse(time)).toBeGreaterThanOrEqual(before - 1)
      expect(Date.parse(time)).toBeLessThanOrEqual(Date.now() + 1)
    }
    // Whoever is not root has no business with it but may be let into the directory; the kubelet is root.
    expect(statSync(status.log_path).mode & 0o022).toBe(0)
  })

  it('keeps bytes and long lines as they are', async () => {
    const own = await pod()
    const { status } = await own.run(`printf 'ü\\t\\001|\\n'; head -c 200000 /dev/zero | tr '\\0' x; echo; echo end`)
    const lines = parseLog(readFileSync(status.log_path, 'utf8'))
    expect(text(lines, 'stdout')).toBe(`ü\t\u0001|\n${'x'.repeat(200_000)}\nend\n`)
    expect(lines.some(({ tag }) => tag === 'P')).toBe(true)
  })

  it('ends with the last byte of much output', async () => {
    const own = await pod()
    const { stdout } = await own.run('seq 1 200000')
    const numbers = stdout.trimEnd().split('\n')
    expect(numbers).toHaveLength(200_000)
    expect(numbers.every((number, index) => Number(number) === index + 1)).toBe(true)
  })

  it('of a tty is one stream', async () => {
    const own = await pod()
    const { stdout, stderr } = await own.run('echo one; echo two >&2; tty', { tty: true })
    expect(stdout.replaceAll('\r', '')).toMatch(/^one\ntwo\n\/dev\/(pts\/0|console)\n$/)
    expect(stderr).toBe('')
  })

  it('is not written where the container has no log path', async () => {
    const own = await pod()
    const id = await own.start({ command: ['/bin/sh', '-c', 'echo unheard; exit 7'], log_path: '' })
    const { status } = await own.ended(id)
    expect(status).toMatchObject({ log_path: '', exit_code: 7 })
  })

  it('stays when the container is removed', async () => {
    const own = await pod()
    const { id, status } = await own.run('echo kept')
    await daemon().client.containers.remove(id)
    expect(text(parseLog(readFileSync(status.log_path, 'utf8')), 'stdout')).toBe('kept\n')
  })
})

describe('ReopenContainerLog', () => {
  it('goes on in a new file, and loses nothing', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const script = 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; usleep 2000; done'
    const id = await own.start({ command: ['/bin/sh', '-c', script] })
    const { log_path: path } = await containers.status(id)
    const rotated: string[] = []
    for (let count = 1; count <= 3; count++) {
      rotated.push(`${path}.${count}`)
      renameSync(path, `${path}.${count}`)
      await containers.reopenLog(id)
      expect(existsSync(path)).toBe(true)
    }
    await own.ended(id)
    const all = [...rotated, path].map((file) => text(parseLog(readFileSync(file, 'utf8')), 'stdout')).join('')
    expect(all.trimEnd().split('\n').map(Number)).toEqual(Array.from({ length: 400 }, (_, index) => index + 1))
  })

  it('is refused for a container that does not run', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const { id } = await own.run('true')
    await expect(containers.reopenLog(id)).rejects.toMatchObject({ code: grpc.FAILED_PRECONDITION })
    await expect(containers.reopenLog('b'.repeat(64))).rejects.toMatchObject({ code: grpc.NOT_FOUND })
  })
})

describe('a log path', () => {
  it.each(['../../outside.log', '/etc/outside.log', 'a/../../../outside.log', 'a\nb.log', '..'])(
    'that leads out of the log directory is refused: %j',
    async (log_path) => {
      const own = await pod()
      await expect(own.create({ log_path })).rejects.toMatchObject({ code: grpc.INVALID_ARGUMENT })
      expect(existsSync('/etc/outside.log')).toBe(false)
      expect(existsSync(join(daemon().dir, 'outside.log'))).toBe(false)
    },
  )

  it('is not followed through a link that somebody has put there', async () => {
    const own = await pod()
    const target = join(daemon().dir, 'victim')
    const directory = own.config.log_directory ?? ''
    mkdirSync(directory, { recursive: true })
    symlinkSync(target, join(directory, 'linked.log'))
    symlinkSync(dirname(target), join(directory, 'away'))
    for (const log_path of ['linked.log', 'away/victim']) {
      const outcome = await own.run('echo written', { log_path }).catch(() => undefined)
      expect(existsSync(target) ? readFileSync(target, 'utf8') : '', log_path).toBe('')
      if (outcome) await daemon().client.containers.remove(outcome.id)
    }
  })

  it('may have directories of its own', async () => {
    const own = await pod()
    const { status, stdout } = await own.run('echo deep', { log_path: 'some/where/0.log' })
    expect(status.log_path).toBe(join(own.config.log_directory ?? '', 'some/where/0.log'))
    expect(stdout).toBe('deep\n')
  })

  it('appends to what an earlier attempt has written', async () => {
    const own = await pod()
    await own.run('echo first', { log_path: 'same.log' })
    const { stdout } = await own.run('echo second', { log_path: 'same.log' })
    expect(stdout).toBe('first\nsecond\n')
  })
})

describe('a container that writes much', () => {
  it('hinders no other one', async () => {
    const own = await pod()
    const { containers } = daemon().client
    const loud = await own.start({ command: ['/bin/sh', '-c', 'yes | head -c 300000000'], log_path: 'loud.log' })
    const { stdout } = await own.run('echo quiet')
    expect(stdout).toBe('quiet\n')
    expect(await containers.shell(loud, 'echo still')).toBe('still')
    await eventually(
      () => containers.status(loud),
      ({ state }) => state === 'CONTAINER_EXITED',
      200,
    )
    await containers.remove(loud)
  })
})
