import { status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { containerConfig } from '../../support/fake-containers.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'
import { ask, type CriServer, fakeNode, startCri } from './cri-server.ts'

const CHECKPOINT = { pod_sandbox_id: 'p', output_path: '/out', container_ids: ['c1', 'c2'], options: {} }
const RESTORE = {
  checkpoint_path: '/out',
  config: podConfig(),
  runtime_handler: 'runc',
  options: {},
  container_configs: [containerConfig(), containerConfig({ metadata: { name: 'second', attempt: 0 } })],
}

const refused = (details: string) => ({
  code: status.INVALID_ARGUMENT,
  details: expect.stringContaining(details) as string,
})

let server: CriServer
afterEach(async () => server[Symbol.asyncDispose]())

describe('checkpoints where the configuration allows them', () => {
  beforeEach(async () => {
    server = await startCri()
  })

  it('hands on the request for a checkpoint of a pod', async () => {
    await expect(ask(server.client, 'CheckpointPod', CHECKPOINT)).resolves.toEqual({})
    expect(server.podCheckpoints.checkpointed).toEqual([
      { sandboxId: 'p', outputPath: '/out', containerIds: ['c1', 'c2'] },
    ])
  })

  it('hands on the request for a restore, and answers with every container', async () => {
    await expect(ask(server.client, 'RestorePod', RESTORE)).resolves.toEqual({
      pod_sandbox_id: 'sandbox-1',
      restored_containers: [
        { name: 'main', container_id: 'id-0' },
        { name: 'second', container_id: 'id-1' },
      ],
    })
    expect(server.podCheckpoints.restored[0]).toMatchObject({ checkpointPath: '/out', runtimeHandler: 'runc' })
    expect(server.podCheckpoints.restored[0]?.containers).toHaveLength(2)
  })

  it.each<[string, object]>([
    ['options.leaveRunning: ', { options: { leaveRunning: 'true' } }],
    ['pod_sandbox_id: ', { pod_sandbox_id: '' }],
    ['output_path: ', { output_path: '' }],
    ['output_path: ', { output_path: 'relative' }],
    ['output_path: ', { output_path: '/a/../b' }],
    ['container_ids: ', { container_ids: [] }],
    ['container_ids[1]: ', { container_ids: ['c1', ''] }],
    ['container_ids[1]: ', { container_ids: ['c1', 'c1'] }],
  ])('refuses a checkpoint with a wrong %s', async (details, change) => {
    const attempt = ask(server.client, 'CheckpointPod', { ...CHECKPOINT, ...change })
    await expect(attempt).rejects.toMatchObject(refused(details))
    expect(server.podCheckpoints.checkpointed).toEqual([])
  })

  it.each<[string, object]>([
    ['options.tcp-established: ', { options: { 'tcp-established': '' } }],
    ['checkpoint_path: ', { checkpoint_path: '' }],
    ['checkpoint_path: ', { checkpoint_path: 'x' }],
    ['config: ', { config: null }],
    ['config.metadata.name: ', { config: podConfig({ metadata: { name: '', namespace: 'n', uid: 'u', attempt: 0 } }) }],
    ['container_configs: ', { container_configs: [] }],
    ['container_configs[0].image: ', { container_configs: [containerConfig({ image: null })] }],
    [
      'container_configs[1].metadata: ',
      { container_configs: [containerConfig(), containerConfig({ metadata: null })] },
    ],
  ])('refuses a restore with a wrong %s', async (details, change) => {
    const attempt = ask(server.client, 'RestorePod', { ...RESTORE, ...change })
    await expect(attempt).rejects.toMatchObject(refused(details))
    expect(server.podCheckpoints.restored).toEqual([])
  })
})

describe('checkpoints where the configuration does not allow them', () => {
  it.each([
    ['CheckpointContainer', { container_id: 'x', location: '/x.tar' }],
    ['CheckpointPod', CHECKPOINT],
    ['RestorePod', RESTORE],
  ] as const)('%s names the switch', async (method, request) => {
    server = await startCri(fakeNode(), { checkpoints: false })
    await expect(ask(server.client, method, request)).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringContaining('checkpoint.enabled') as string,
    })
    expect(server.containers.calls).toEqual([])
  })
})
