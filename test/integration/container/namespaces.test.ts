import { status as grpc } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { PodSandboxConfig } from '../../../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { NamespaceOption } from '../../../src/generated/runtime/v1/NamespaceOption.ts'
import { containing } from '../../support/cni-plugins/containing.ts'
import { SHIM_HANDLERS, sharedDaemon } from '../../support/daemon.ts'
import { namespaceOf, pinnedNamespace, processFacts } from '../../support/pod-facts.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon()

function pod(handler: string, namespace_options: NamespaceOption): Promise<TestPod> {
  const config: PodSandboxConfig = daemon().pod({ linux: { security_context: { namespace_options } } })
  return TestPod.run(daemon(), handler, config)
}

async function pidOf(id: string): Promise<number> {
  return (await daemon().client.containers.info(id)).pid
}

describe.each(['crun', 'runc', 'crun-pinned', 'runc-pinned', ...SHIM_HANDLERS])(
  'the namespaces of containers on %s',
  (handler) => {
    it('of network, IPC and host name are those of the pod', async () => {
      const own = await pod(handler, { network: 'POD', pid: 'CONTAINER', ipc: 'POD' })
      const [a, b] = [await pidOf(await own.start()), await pidOf(await own.start())]
      for (const kind of ['net', 'ipc', 'uts'] as const) {
        expect(namespaceOf(a, kind)).toBe(namespaceOf(b, kind))
        expect(namespaceOf(a, kind)).not.toBe(namespaceOf('self', kind))
      }
      const { netnsPath } = await daemon().client.info(own.id)
      expect(namespaceOf(a, 'net')).toBe(pinnedNamespace(netnsPath, 'net'))
      for (const kind of ['pid', 'mnt'] as const) expect(namespaceOf(a, kind)).not.toBe(namespaceOf(b, kind))
    })

    it('of processes is one for all where the pod shares it', async () => {
      const own = await pod(handler, { network: 'POD', pid: 'POD', ipc: 'POD' })
      const [a, b] = [await own.start(), await own.start()]
      expect(namespaceOf(await pidOf(a), 'pid')).toBe(namespaceOf(await pidOf(b), 'pid'))
      expect(namespaceOf(await pidOf(a), 'pid')).not.toBe(namespaceOf('self', 'pid'))
      expect(await daemon().client.containers.shell(a, 'ps | grep -c "sleep 100[0]"')).not.toBe('0')
      // What one of them leaves behind goes with it, not with the pod.
      await daemon().client.containers.stop(a, 5)
      expect((await daemon().client.containers.status(b)).state).toBe('CONTAINER_RUNNING')
      expect(await daemon().client.containers.shell(b, 'ps | grep -c "trap [^g]*sleep 1000"')).toBe('1')
    })

    it('are those of the node where that is asked for', async () => {
      const own = await pod(handler, { network: 'NODE', pid: 'NODE', ipc: 'NODE' })
      const pid = await pidOf(await own.start())
      for (const kind of ['pid', 'ipc'] as const) expect(namespaceOf(pid, kind)).toBe(namespaceOf('self', kind))
      expect(namespaceOf(pid, 'net')).toBe(namespaceOf(daemon().pid, 'net'))
      expect(namespaceOf(pid, 'mnt')).not.toBe(namespaceOf('self', 'mnt'))
    })

    it('of processes may be that of another container', async () => {
      const own = await pod(handler, { network: 'POD', pid: 'CONTAINER', ipc: 'POD' })
      const target = await own.start()
      const options = { network: 'POD', pid: 'TARGET', ipc: 'POD', target_id: target } as const
      const id = await own.start({ security: { namespace_options: options } })
      expect(namespaceOf(await pidOf(id), 'pid')).toBe(namespaceOf(await pidOf(target), 'pid'))
      const { containers } = daemon().client
      await containers.stop(id, 5)
      expect((await containers.status(target)).state).toBe('CONTAINER_RUNNING')
    })
  },
)

describe('a container that shares the processes of the node', () => {
  it('takes all of its own with it', async () => {
    const own = await pod('crun-pinned', { network: 'NODE', pid: 'NODE', ipc: 'POD' })
    const id = await own.start({ command: ['/bin/sh', '-c', 'setsid sleep 1000 & exit 4'] })
    expect((await own.ended(id)).status.exit_code).toBe(4)
    // What is left of it is what the check after each test finds.
  })
})

describe('a target container', () => {
  it('must be there', async () => {
    const own = await pod('crun-pinned', { network: 'POD', pid: 'CONTAINER', ipc: 'POD' })
    const options = { network: 'POD', pid: 'TARGET', ipc: 'POD', target_id: 'd'.repeat(64) } as const
    const creating = own.create({ security: { namespace_options: options } })
    await expect(creating).rejects.toMatchObject({ details: containing('d'.repeat(64)) })
  })
})

describe('user namespaces', () => {
  it('map the container to other users of the node, or are refused', async () => {
    const ids = [{ host_id: 100_000, container_id: 0, length: 65_536 }]
    const options = {
      network: 'POD',
      pid: 'CONTAINER',
      ipc: 'POD',
      userns_options: { mode: 'POD', uids: ids, gids: ids },
    } as const
    const running = pod('crun-pinned', options)
    const [outcome] = await Promise.allSettled([running])
    if (outcome.status === 'rejected') {
      expect(outcome.reason).toMatchObject({ details: containing('userns') })
      expect([grpc.INVALID_ARGUMENT, grpc.UNIMPLEMENTED, grpc.FAILED_PRECONDITION]).toContain(
        (outcome.reason as { code: number }).code,
      )
      return
    }
    const id = await outcome.value.start()
    expect(processFacts(await pidOf(id)).uids).toEqual([100_000, 100_000, 100_000, 100_000])
    expect(await daemon().client.containers.shell(id, 'id -u; touch /file; stat -c %u /file /bin')).toBe('0\n0\n0')
  })
})
