import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { errorCode } from '../../../src/core/errors.ts'
import { runOk } from '../../../src/host/programs/run.ts'
import { sharedDaemon } from '../../support/daemon.ts'
import { findShim } from '../../support/peers.ts'
import { namespaceOf } from '../../support/pod-facts.ts'
import { FrontEnd, frontEnds } from '../../support/served-sandbox.ts'

const daemonOf = sharedDaemon({ config: ({ dir }) => FrontEnd.config(dir) })
const frontEnd = frontEnds()

describe.skipIf(!findShim())('a served sandbox', () => {
  it('is created, started, looked at, stopped and shut down', async () => {
    const front = frontEnd(daemonOf())
    const { client } = front
    const request = front.request()
    const { id } = request
    await client.create(request)
    expect(await client.status(id)).toMatchObject({ id, ready: false, state: 'SANDBOX_NOTREADY', pid: 0, address: '' })

    const started = await client.start(id)
    expect(started.address).toMatch(/^ttrpc\+unix:\/\/\//)
    expect(started.version).toBeGreaterThan(1)
    expect(started.pid).toBeGreaterThan(1)
    expect(await client.start(id)).toEqual(started)
    const status = await client.status(id, { verbose: true })
    expect(status).toMatchObject({ ready: true, state: 'SANDBOX_READY', pid: started.pid, address: started.address })
    expect(Object.keys(status.info)).toEqual(['info'])
    expect(JSON.parse(status.info['info'] ?? '')).toMatchObject({ id, pid: started.pid, sandboxer: 'shim-v2' })

    const ended = client.wait(id)
    await client.stop(id)
    const exit = await ended
    expect(await client.wait(id)).toEqual(exit)
    expect(await client.status(id)).toMatchObject({ ready: false, exitedAtNs: exit.exitedAtNs, pid: 0 })
    await expect(client.start(id)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await client.shutdown(id)
    await expect(client.status(id)).rejects.toMatchObject({ code: 'NotFound' })
    await client.shutdown(id)
  })

  it('is in the network namespace of its front end, and leaves it there', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const netns = await front.netns()
    const id = await front.run(front.request(daemon.pod(), netns))
    const { pid } = await front.client.status(id)
    expect(namespaceOf(pid, 'net')).toBe(`net:[${statSync(netns).ino}]`)
    for (const type of ['uts', 'ipc', 'pid'] as const)
      expect(namespaceOf(pid, type)).not.toBe(namespaceOf('self', type))
    await front.client.shutdown(id)
    expect(existsSync(netns)).toBe(true)
  })

  it('is told ended when its process is killed, with the exit code', async () => {
    const front = frontEnd(daemonOf())
    const id = await front.run()
    const ended = front.client.wait(id)
    process.kill((await front.client.status(id)).pid, 'SIGKILL')
    expect(await ended).toMatchObject({ exitStatus: 137 })
    expect(await front.client.status(id)).toMatchObject({ ready: false })
    await front.client.stop(id)
    await front.client.shutdown(id)
  })

  it('is none of our own CRI, nor the other way round', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const config = daemon.hostPod()
    const [served, own] = [await front.run(front.request(config)), await daemon.run(config)]
    expect((await daemon.client.list()).map(({ id }) => id)).toEqual([own])
    await expect(daemon.client.status(served)).rejects.toThrow('there is none')
    await expect(daemon.client.status(served.slice(0, 12))).rejects.toThrow('there is none')
    // As for any id that it does not know.
    await daemon.client.stop(served)
    await daemon.client.remove(served)
    expect(await front.client.status(served)).toMatchObject({ ready: true })

    await expect(front.client.status(own)).rejects.toMatchObject({ code: 'NotFound' })
    await expect(front.client.create({ ...front.request(), id: own })).rejects.toMatchObject({ code: 'AlreadyExists' })
    await front.client.stop(own)
    await front.client.shutdown(own)
    expect((await daemon.client.status(own)).state).toBe('SANDBOX_READY')
    await front.client.shutdown(served)
  })

  it('tells what it uses', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const id = await front.run(front.request(daemon.pod(), await front.netns()))
    const { usage, data } = await front.client.metrics(id)
    expect(data?.typeUrl).toMatch(/^io\.containerd\.cgroups\.v[12]\.Metrics$/)
    expect(usage?.pids).toBe(1n)
    expect(usage?.memoryBytes).toBeGreaterThan(0n)
    expect(usage?.cpuNs).toBeGreaterThan(0n)
    await front.client.shutdown(id)
  })
})

describe.skipIf(!findShim())('the files of a served pod', () => {
  it('are where its front end looks for them, and go with it', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const id = await front.run(front.request(daemon.pod({ hostname: 'web' }), await front.netns()))
    const { files, shm } = front.places(id)
    expect(readFileSync(join(files, 'hostname'), 'utf8')).toBe('web\n')
    expect(readFileSync(join(files, 'hosts'), 'utf8')).toContain('localhost')
    expect(existsSync(join(files, 'resolv.conf'))).toBe(true)
    expect(statSync(shm).dev).not.toBe(statSync(join(shm, '..')).dev)
    await front.client.shutdown(id)
    expect(existsSync(files)).toBe(false)
    expect(existsSync(join(shm, '..'))).toBe(false)
  })

  it('are there again when the front end has removed them, with what was in /dev/shm', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const id = await front.run(front.request(daemon.pod(), await front.netns()))
    const { files, shm } = front.places(id)
    writeFileSync(join(shm, 'kept'), 'x')
    // As containerd does when it starts.
    await runOk('umount', ['-l', shm], { timeoutMs: 10_000 })
    for (const path of [files, join(shm, '..')]) await rm(path, { recursive: true })
    await Promise.all(Array.from({ length: 10 }, () => front.client.status(id)))
    expect(readFileSync(join(shm, 'kept'), 'utf8')).toBe('x')
    expect(existsSync(join(files, 'hosts'))).toBe(true)
    await front.client.shutdown(id)
    expect(existsSync(join(shm, '..'))).toBe(false)
  })

  it('that cannot be made again do not keep it from being told how it is', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const id = await front.run()
    const { files } = front.places(id)
    await rm(files, { recursive: true })
    writeFileSync(files, '')
    expect(await front.client.status(id)).toMatchObject({ ready: true })
    await rm(files)
    await front.client.shutdown(id)
  })

  it('are not asked for where it has none', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const linux = { security_context: { namespace_options: { network: 'NODE', ipc: 'NODE' } } } as const
    const id = await front.run(front.request(daemon.pod({ linux })))
    const { files, shm } = front.places(id)
    expect(readFileSync(join(files, 'hosts'), 'utf8')).toBe(readFileSync('/etc/hosts', 'utf8'))
    expect(existsSync(shm)).toBe(false)
    await front.client.shutdown(id)
    expect(existsSync(files)).toBe(false)
  })
})

describe.skipIf(!findShim())('the order of calls', () => {
  it('is any: the second of each is answered as the first, or refused by name', async () => {
    const front = frontEnd(daemonOf())
    const { client } = front
    const request = front.request()
    const { id } = request
    const created = await Promise.allSettled([client.create(request), client.create(request)])
    expect(created.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
    await expect(client.create(request)).rejects.toMatchObject({ code: 'AlreadyExists' })
    const [first, second] = await Promise.all([client.start(id), client.start(id)])
    expect(second).toEqual(first)
    const waits = Array.from({ length: 20 }, () => client.wait(id))
    await Promise.all([client.stop(id), client.stop(id), client.stop(id)])
    const exits = await Promise.all(waits)
    expect(new Set(exits.map(({ exitedAtNs }) => exitedAtNs)).size).toBe(1)
    await Promise.all([client.shutdown(id), client.shutdown(id), client.stop(id)])
    await expect(client.wait(id)).rejects.toMatchObject({ code: 'NotFound' })
    // The id may be had again.
    await client.create(request)
    await client.shutdown(id)
  })

  it.each(['stop', 'shutdown'] as const)('may be %s before start, at once', async (verb) => {
    const front = frontEnd(daemonOf())
    const { client } = front
    const request = front.request()
    const { id } = request
    const creating = client.create(request)
    const ended = creating.then(() => client.wait(id))
    const outcome = ended.then(
      () => 'ended',
      (error: unknown) => errorCode(error),
    )
    await creating
    const since = performance.now()
    await client[verb](id)
    expect(performance.now() - since).toBeLessThan(8000)
    expect(['ended', 'NotFound']).toContain(await outcome)
    await expect(client.start(id)).rejects.toMatchObject({
      code: verb === 'stop' ? 'FailedPrecondition' : 'NotFound',
    })
    await client.shutdown(id)
  })

  it('is that of arrival when all come at once', async () => {
    const front = frontEnd(daemonOf())
    const { client } = front
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        const request = front.request()
        const { id } = request
        const settled = await Promise.allSettled([
          client.create(request),
          client.start(id),
          client.wait(id),
          client.status(id),
          client.stop(id),
          client.start(id),
          client.shutdown(id),
        ])
        const codes = settled.flatMap((one) =>
          one.status === 'rejected' ? [(one.reason as { code: string }).code] : [],
        )
        for (const code of codes) expect(['NotFound', 'FailedPrecondition']).toContain(code)
        await client.shutdown(id)
        await expect(client.status(id)).rejects.toMatchObject({ code: 'NotFound' })
      }),
    )
  })

  it('refuses what is not there, and what cannot be', async () => {
    const daemon = daemonOf()
    const front = frontEnd(daemon)
    const missing = front.request(daemon.pod(), '/run/netns/no-such-one')
    await expect(front.client.create(missing)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    for (const path of [join(daemon.dir, 'no-namespace'), daemon.database, `/run/${'x'.repeat(300)}`]) {
      const wrong = front.request(daemon.pod(), path)
      await expect(front.client.create(wrong)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    }
    await expect(front.client.create(front.request(daemon.pod()))).rejects.toMatchObject({ code: 'InvalidArgument' })
    const kind = { ...front.request(), runtime: { name: 'io.containerd.nosuch.v2' } }
    await expect(front.client.create(kind)).rejects.toMatchObject({ code: 'FailedPrecondition' })
    await expect(front.client.start(missing.id)).rejects.toMatchObject({ code: 'NotFound' })
  })
})
