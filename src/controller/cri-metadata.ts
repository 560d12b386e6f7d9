import type { PodNetwork, SandboxSpec } from './controller.ts'

/** What containerd calls the sandbox extension in which its CRI keeps its own record. */
export const METADATA_TYPE = 'github.com/containerd/cri/pkg/store/sandbox/Metadata'

/**
 * The record that containerd's CRI hands to sandboxers with each sandbox: there they look for addresses and routes of the
 * pod. JSON; its keys are those of the Go structs.
 *
 * @param config the pod's, as Go's encoding/json reads it: enums and 64-bit numbers are numbers.
 */
export function criMetadata(spec: SandboxSpec, podName: string, config: object): Buffer {
  const { networks = [] } = spec
  const [ip = '', ...additional] = spec.ips ?? []
  const metadata = {
    ID: spec.id,
    Name: podName,
    Config: config,
    NetNSPath: spec.netnsPath,
    IP: ip,
    AdditionalIPs: additional,
    RuntimeHandler: spec.runtimeHandler,
    CNIResult: networks.length === 0 ? null : cniResult(networks),
  }
  return Buffer.from(JSON.stringify({ Version: 'v1', Metadata: metadata }))
}

/** In the form of go-cni, which has one result for all networks. */
function cniResult(networks: readonly PodNetwork[]): object {
  const interfaces: Record<string, { IPConfigs: object[]; Mac: string; Sandbox: string }> = {}
  for (const { result } of networks) {
    for (const { name, mac, sandbox } of result.interfaces) {
      interfaces[name] ??= { IPConfigs: [], Mac: mac, Sandbox: sandbox }
    }
    for (const { address, gateway = '', interface: index } of result.ips) {
      const name = index === undefined ? undefined : result.interfaces[index]?.name
      if (name !== undefined) interfaces[name]?.IPConfigs.push({ IP: address.split('/')[0], Gateway: gateway })
    }
  }
  return {
    Interfaces: interfaces,
    DNS: networks.map(({ result }) => result.dns),
    Routes: networks.flatMap(({ result }) => result.routes),
  }
}
