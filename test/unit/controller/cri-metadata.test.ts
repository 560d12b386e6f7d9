import { expect, it } from 'vitest'
import { criMetadata } from '../../../src/controller/cri-metadata.ts'
import { loadCri, loadCriForGo } from '../../../src/grpc/load.ts'
import { podConfig } from '../../support/fake-sandboxes.ts'

it("holds the configuration as Go's encoding/json reads it: numbers for enums and for 64 bits, nothing for what is unset", () => {
  const config = {
    metadata: { name: 'web', namespace: 'default', uid: 'u', attempt: 0 },
    log_directory: '/logs',
    labels: { app: 'web' },
    port_mappings: [{ protocol: 'UDP' as const, container_port: 53, host_port: 5353 }],
    linux: {
      resources: { cpu_period: '100000', memory_limit_in_bytes: '1073741824' },
      security_context: { namespace_options: { network: 'NODE' as const, pid: 'CONTAINER' as const } },
    },
  }
  const { serialize } = loadCri().runtime.v1.PodSandboxConfig
  const json = loadCriForGo().runtime.v1.PodSandboxConfig.deserialize(serialize(config))
  const spec = {
    id: 'f'.repeat(64),
    config: podConfig(),
    hostname: '',
    runtimeHandler: 'kata',
    sandboxer: 'far',
    netnsPath: '',
    usernsPath: '',
    stateDir: '',
    shmPath: '',
  }
  const { Metadata } = JSON.parse(criMetadata(spec, 'web_default_u_0', json).toString()) as { Metadata: object }
  expect(Metadata).toMatchObject({ Name: 'web_default_u_0', IP: '', AdditionalIPs: [], CNIResult: null })
  expect((Metadata as { Config: object }).Config).toEqual({
    metadata: { name: 'web', namespace: 'default', uid: 'u', attempt: 0 },
    log_directory: '/logs',
    labels: { app: 'web' },
    port_mappings: [{ protocol: 1, container_port: 53, host_port: 5353 }],
    linux: {
      resources: { cpu_period: 100_000, memory_limit_in_bytes: 1_073_741_824 },
      security_context: { namespace_options: { network: 2, pid: 1 } },
    },
  })
})
