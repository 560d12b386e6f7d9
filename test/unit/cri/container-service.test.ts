import { status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import type { Container__Output } from '../../../src/generated/runtime/v1/Container.ts'
import { containerConfig, containerResources } from '../../support/fake-containers.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { ask, type CriServer, startCri } from './cri-server.ts'

const MIB = 1024 * 1024
const LARGEST_TIMER_MS = 2 ** 31 - 1

let server: CriServer

beforeEach(async () => {
  server = await startCri()
})
afterEach(async () => await server[Symbol.asyncDispose]())

function refused(code: status, details: string): { code: status; details: string } {
  return { code, details: expect.stringContaining(details) as string }
}

describe('CreateContainer', () => {
  it('hands the configuration over as it came, for the pod that the id begins, and answers the id', async () => {
    const pod = server.sandboxes.add()
    const config = containerConfig({
      envs: [{ key: 'TEXT', value: Buffer.from('ä\n=') }],
      annotations: { n: '1\n2' },
      linux: { security_context: null, resources: containerResources({ memory_limit_in_bytes: '9007199254740993' }) },
    })
    const request = { pod_sandbox_id: pod.metadata.id.slice(0, 63), config, sandbox_config: podConfig() }
    const { container_id: id } = await ask(server.client, 'CreateContainer', request)
    expect(server.containers.get(id).metadata).toMatchObject({ sandboxId: pod.metadata.id, config })
  })

  it('refuses a bad configuration before anybody hears of it', async () => {
    const pod_sandbox_id = server.sandboxes.add().metadata.id
    const attempt = ask(server.client, 'CreateContainer', {
      pod_sandbox_id,
      config: containerConfig({ log_path: '../../etc/passwd' }),
    })
    await expect(attempt).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, 'config.log_path: '))
    expect(server.containers.calls).toEqual([])
  })

  it('refuses the configuration of another pod, whatever else it says', async () => {
    const pod_sandbox_id = server.sandboxes.add().metadata.id
    const create = (changes: object) => {
      const sandbox_config = podConfig({
        metadata: { name: 'web', namespace: 'default', uid: 'uid-1', attempt: 0, ...changes },
      })
      return ask(server.client, 'CreateContainer', { pod_sandbox_id, config: containerConfig(), sandbox_config })
    }
    await expect(create({ uid: 'uid-2' })).rejects.toMatchObject(
      refused(status.INVALID_ARGUMENT, 'sandbox_config.metadata.uid: '),
    )
    expect(server.containers.calls).toEqual([])
    await create({ attempt: 7 })
  })

  it('answers NOT_FOUND for a pod that nobody knows', async () => {
    const attempt = ask(server.client, 'CreateContainer', { pod_sandbox_id: 'x', config: containerConfig() })
    await expect(attempt).rejects.toMatchObject({ code: status.NOT_FOUND })
  })

  it('passes on that the pod is not ready', async () => {
    const pod_sandbox_id = server.sandboxes.add({ state: 'STOPPED' }).metadata.id
    server.containers.inTheWay = async () => {
      throw new CodedError('FailedPrecondition', 'create container in sandbox x: it is not ready')
    }
    const attempt = ask(server.client, 'CreateContainer', { pod_sandbox_id, config: containerConfig() })
    await expect(attempt).rejects.toMatchObject(refused(status.FAILED_PRECONDITION, 'it is not ready'))
  })
})

describe('the container methods', () => {
  const METHODS = [
    'StartContainer',
    'StopContainer',
    'RemoveContainer',
    'ContainerStatus',
    'ExecSync',
    'UpdateContainerResources',
    'ReopenContainerLog',
    'CheckpointContainer',
  ] as const

  it.each(METHODS)('%s refuses an empty id, which would be the beginning of every id', async (method) => {
    server.containers.add()
    const request = { container_id: '', cmd: ['true'], linux: {}, location: '/c.tar' }
    await expect(ask(server.client, method, request)).rejects.toMatchObject(
      refused(status.INVALID_ARGUMENT, 'container_id: '),
    )
    expect(server.containers.calls).toEqual([])
  })

  it('start, reopen the log, remove', async () => {
    const container_id = server.containers.add().metadata.id
    expect(await ask(server.client, 'StartContainer', { container_id })).toEqual({})
    expect(await ask(server.client, 'ReopenContainerLog', { container_id })).toEqual({})
    expect(await ask(server.client, 'RemoveContainer', { container_id })).toEqual({})
    expect(server.containers.calls.map(({ verb }) => verb)).toEqual(['start', 'reopenLog', 'remove'])
    expect(server.containers.views).toEqual([])
  })

  it('stop within seconds, of which there are at most those that a timer holds', async () => {
    for (const timeout of ['0', '30', '2147484', '9223372036854775807']) {
      await ask(server.client, 'StopContainer', { container_id: 'x', timeout })
    }
    expect(server.containers.calls.map(({ request }) => request)).toEqual([
      0,
      30_000,
      LARGEST_TIMER_MS,
      LARGEST_TIMER_MS,
    ])
    const attempt = ask(server.client, 'StopContainer', { container_id: 'x', timeout: '-1' })
    await expect(attempt).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, 'timeout: '))
  })

  it('update the limits', async () => {
    const container_id = server.containers.add().metadata.id
    const linux = containerResources({ cpu_quota: '-1', memory_limit_in_bytes: '9007199254740993' })
    await ask(server.client, 'UpdateContainerResources', { container_id, linux, annotations: { a: 'b' } })
    expect(server.containers.get(container_id).status.resources).toEqual(linux)
  })

  it.each([
    ['linux: ', {}],
    ['linux.cpu_shares: ', { linux: { cpu_shares: '-1' } }],
    ['linux.oom_score_adj: ', { linux: { oom_score_adj: '-1001' } }],
    ['windows: ', { linux: {}, windows: {} }],
  ])('refuse to update a bad %s', async (field, request) => {
    const attempt = ask(server.client, 'UpdateContainerResources', { container_id: 'x', ...request })
    await expect(attempt).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, field))
    expect(server.containers.calls).toEqual([])
  })

  it('checkpoint to an absolute path', async () => {
    await ask(server.client, 'CheckpointContainer', { container_id: 'x', location: '/var/c.tar', timeout: '5' })
    expect(server.containers.calls[0]?.request).toEqual({ location: '/var/c.tar', timeoutMs: 5000 })
    for (const location of ['', 'c.tar', '/var/../etc/c.tar', '/c\n.tar']) {
      const attempt = ask(server.client, 'CheckpointContainer', { container_id: 'x', location })
      await expect(attempt).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, 'location: '))
    }
  })
})

describe('ExecSync', () => {
  const exec = (request: object) =>
    ask(server.client, 'ExecSync', { container_id: 'x', cmd: ['sh', '-c', 'a\nb'], ...request })

  it('answers both streams byte by byte, and the exit code', async () => {
    const stdout = Buffer.from([0, 255, 10])
    server.containers.execAnswer = { exitCode: 137, stdout, stderr: Buffer.from('e') }
    expect(await exec({ timeout: '2' })).toEqual({ exit_code: 137, stdout, stderr: Buffer.from('e') })
    expect(server.containers.calls[0]?.request).toEqual({ command: ['sh', '-c', 'a\nb'], timeoutMs: 2000 })
  })

  it.each([
    ['one full stream', 16 * MIB, 0, 16 * MIB - 64, 0],
    ['two full streams', 16 * MIB, 16 * MIB, 8 * MIB - 32, 8 * MIB - 32],
    ['a full stream beside a short one', 1000, 16 * MIB, 1000, 16 * MIB - 1064],
    ['what fits', 10 * MIB, 5 * MIB, 10 * MIB, 5 * MIB],
  ])('fits %s into a message that clients take', async (_, stdoutBytes, stderrBytes, shownStdout, shownStderr) => {
    const [stdout, stderr] = [Buffer.alloc(stdoutBytes, 'o'), Buffer.alloc(stderrBytes, 'e')]
    server.containers.execAnswer = { exitCode: 0, stdout, stderr }
    const answer = await exec({})
    expect([answer.stdout.length, answer.stderr.length]).toEqual([shownStdout, shownStderr])
  })

  it('passes on that time ran out', async () => {
    server.containers.inTheWay = async () => {
      throw new CodedError('DeadlineExceeded', 'run sleep in container x: no end after 1000 ms')
    }
    await expect(exec({ timeout: '1' })).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED })
  })

  it.each([
    ['cmd: ', { cmd: [] }],
    ['cmd: ', { cmd: ['', 'a'] }],
    ['cmd[1]: ', { cmd: ['a', 'b\0c'] }],
    ['timeout: ', { timeout: '-1' }],
  ])('refuses a bad %s', async (field, request) => {
    await expect(exec(request)).rejects.toMatchObject(refused(status.INVALID_ARGUMENT, field))
    expect(server.containers.calls).toEqual([])
  })
})

describe('ContainerStatus', () => {
  it('answers a whole status for the beginning of an id, and all that is known when verbose', async () => {
    const { metadata } = server.containers.add({ status: { state: 'RUNNING', startedAtNs: 2n ** 60n } })
    const container_id = metadata.id.slice(0, 63)
    const brief = await ask(server.client, 'ContainerStatus', { container_id })
    expect(brief.status).toMatchObject({
      id: metadata.id,
      state: 'CONTAINER_RUNNING',
      started_at: '1152921504606846976',
    })
    expect(brief.info).toEqual({})
    server.containers.infoAnswer = { pid: 42, runtimeSpec: { ociVersion: '1.0.2' }, limit: 2n ** 63n - 1n }
    const verbose = await ask(server.client, 'ContainerStatus', { container_id, verbose: true })
    expect(verbose.info).toEqual({
      info: '{"limit":"9223372036854775807","pid":42,"runtimeSpec":{"ociVersion":"1.0.2"}}',
    })
    expect(server.containers.calls.map(({ subject }) => subject)).toEqual([metadata.id])
  })

  it('answers NOT_FOUND for an id that nobody knows', async () => {
    const attempt = ask(server.client, 'ContainerStatus', { container_id: 'x' })
    await expect(attempt).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})

describe('ListContainers', () => {
  const list = async (filter: object | null) => {
    const { containers } = await ask(server.client, 'ListContainers', { filter })
    return containers.map(({ id }) => id)
  }

  it('filters by id, pod, state and labels, all of them together', async () => {
    const labels = { app: 'web' }
    const created = server.containers.add({ metadata: { sandboxId: 'a1' }, config: { labels } }).metadata.id
    const running = server.containers.add({ metadata: { sandboxId: 'a1' }, status: { state: 'RUNNING' } }).metadata.id
    const exited = server.containers.add({ metadata: { sandboxId: 'b1' }, status: { state: 'EXITED' } }).metadata.id
    const doubtful = server.containers.add({ status: { state: 'RUNNING' }, quarantined: 'row: no seal' }).metadata.id
    expect(await list(null)).toEqual([doubtful, exited, running, created])
    expect(await list({ pod_sandbox_id: 'a' })).toEqual([running, created])
    expect(await list({ label_selector: labels })).toEqual([created])
    expect(await list({ state: { state: 'CONTAINER_CREATED' } })).toEqual([created])
    expect(await list({ state: { state: 'CONTAINER_RUNNING' } })).toEqual([running])
    expect(await list({ state: { state: 'CONTAINER_UNKNOWN' } })).toEqual([doubtful])
    expect(await list({ id: exited, state: { state: 'CONTAINER_RUNNING' } })).toEqual([])
    expect(await list({ id: exited, state: { state: 'CONTAINER_EXITED' } })).toEqual([exited])
    await expect(list({ state: { state: 9 } })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    await expect(list({ id: 'a\nb' })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  })

  it('points to the stream when the list outgrows a message, and the stream holds it all', async () => {
    for (let at = 0; at < 17; at += 1) server.containers.add({ config: { annotations: { text: 'x'.repeat(MIB) } } })
    await expect(list(null)).rejects.toMatchObject(refused(status.RESOURCE_EXHAUSTED, 'use StreamContainers'))
    const received: string[] = []
    for await (const part of server.client.StreamContainers({})) {
      received.push(...(part as { containers: Container__Output[] }).containers.map(({ id }) => id))
    }
    expect(received).toEqual(server.containers.views.map(({ metadata }) => metadata.id))
    server.containers.views.splice(0, 5)
    expect(await list(null)).toHaveLength(12)
  })

  it('is streamed 100 to a message', async () => {
    for (let at = 0; at < 205; at += 1) server.containers.add()
    const sizes: number[] = []
    for await (const part of server.client.StreamContainers({})) {
      sizes.push((part as { containers: unknown[] }).containers.length)
    }
    expect(sizes).toEqual([100, 100, 5])
  })
})
