import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { crictlOf, hasCrictl, startCrictl } from '../support/crictl.ts'
import { sharedDaemon } from '../support/daemon.ts'
import { inside } from '../support/pod-facts.ts'

describe.skipIf(!hasCrictl())('crictl', () => {
  const daemon = sharedDaemon()
  const crictl = crictlOf(daemon)

  async function file(name: string, content: object): Promise<string> {
    const path = join(daemon().dir, name)
    await writeFile(path, JSON.stringify(content))
    return path
  }

  async function podFile(name: string): Promise<string> {
    const metadata = { name, namespace: 'crictl', uid: `uid-${name}`, attempt: 0 }
    return file(`${name}-pod.json`, { metadata, log_directory: join(daemon().dir, 'logs', name), linux: {} })
  }

  async function containerFile(name: string, image: string, command: readonly string[]): Promise<string> {
    return file(`${name}.json`, { metadata: { name }, image: { image }, command, log_path: `${name}.log`, linux: {} })
  }

  it('pulls, lists, inspects and removes images', async () => {
    const { ref, id } = await daemon().images.push({ name: 'pulled', tag: 'v1' })
    expect(await crictl('pull', ref)).toContain('Image is up to date for')
    expect(await crictl('images')).toMatch(/pulled\s+v1\s+[0-9a-f]{13}\s+[\d.]+[kM]B/)
    expect(await crictl.json('inspecti', ref)).toMatchObject({ status: { id, repoTags: [ref] } })
    const { status } = (await crictl.json('imagefsinfo')) as {
      status: { imageFilesystems: { usedBytes: { value: string } }[]; containerFilesystems: unknown[] }
    }
    expect(Number(status.imageFilesystems[0]?.usedBytes.value)).toBeGreaterThan(1_000_000)
    expect(status.containerFilesystems).toHaveLength(1)
    expect(await crictl('rmi', ref)).toContain(`Deleted: ${ref}`)
    expect(await crictl('images', '--quiet')).toBe('')
  })

  it('runs, shows, changes, stops and removes containers', async () => {
    const image = await daemon().pull()
    const pod = await podFile('web')
    const podId = daemon().track(await crictl('runp', pod))
    const script = 'echo hello; trap "exit 3" TERM; sleep 1000 & wait'
    const id = daemon().track(
      await crictl('create', podId, await containerFile('main', image, ['/bin/sh', '-c', script]), pod),
    )
    expect(await crictl('ps', '--all')).toMatch(/Created\s+main/)
    await crictl('start', id)
    expect(await crictl('ps', '--quiet')).toBe(id)
    const { status, info } = (await crictl.json('inspect', id)) as { status: object; info: { pid: number } }
    expect(status).toMatchObject({ state: 'CONTAINER_RUNNING', metadata: { name: 'main' } })
    expect(readFileSync(`/proc/${info.pid}/cmdline`, 'utf8')).toContain('echo hello')
    expect(await crictl('logs', id)).toBe('hello')
    expect(await crictl('exec', '--sync', id, 'hostname')).not.toBe('')
    await crictl('update', '--memory', String(64 << 20), id)
    expect(await crictl.json('inspect', id)).toMatchObject({
      status: { resources: { linux: { memoryLimitInBytes: String(64 << 20) } } },
    })
    expect(await crictl.json('stats', '--output', 'json', id)).toMatchObject({ stats: [{ attributes: { id } }] })
    expect(await crictl.json('statsp', '--output', 'json', podId)).toMatchObject({
      stats: [{ attributes: { id: podId } }],
    })
    expect(await crictl('metricsp')).toContain(podId)
    await crictl('stop', '--timeout', '5', id)
    expect(await crictl.json('inspect', id)).toMatchObject({
      status: { state: 'CONTAINER_EXITED', exitCode: 3, reason: 'Error' },
    })
    await crictl('rm', id)
    expect(await crictl('ps', '--all', '--quiet')).toBe('')
    await crictl('stopp', podId)
    await crictl('rmp', podId)
  })

  it('runs a web server that answers on the address of its pod', async () => {
    const { ref } = await daemon().images.push({ name: 'web' })
    const server = await containerFile('httpd', ref, ['/bin/httpd', '-f', '-p', '80', '-h', '/etc'])
    const id = daemon().track(await crictl('run', server, await podFile('server')))
    const [pod] = await daemon().client.list()
    const ip = (await daemon().client.status(daemon().track(pod?.id ?? ''))).network?.ip ?? ''
    const url = `http://${ip}/group`
    const node = [`--net=/run/netns/${daemon().node}`]
    await expect
      .poll(() => inside(node, '/bin/busybox', 'wget', '-q', '-O', '-', url).catch(() => ''))
      .toContain('nogroup')
    expect(await crictl('ps', '--quiet')).toBe(id)
  })

  it('follows events', async () => {
    await using following = startCrictl(daemon(), 'events')
    let told = ''
    following.stdout.on('data', (data: Buffer) => {
      told += data.toString()
    })
    const pod = await podFile('eventful')
    const podId = daemon().track(await crictl('runp', pod))
    await crictl('stopp', podId)
    await crictl('rmp', podId)
    for (const type of ['CREATED', 'STARTED', 'STOPPED', 'DELETED']) {
      await expect.poll(() => told, { timeout: 10_000 }).toContain(`CONTAINER_${type}_EVENT`)
    }
  })
})
