import { canonicalJson } from '../core/canonical-json.ts'
import { invalidField } from '../core/errors.ts'
import type { RuntimeCondition } from '../generated/runtime/v1/RuntimeCondition.ts'
import type { RuntimeServiceHandlers } from '../generated/runtime/v1/RuntimeService.ts'
import { type HandlerDeps, unary } from '../grpc/handler.ts'
import type { Condition, NodeStatus } from './node-status.ts'
import { parsePodCidrs } from './validate-network.ts'

/** The version of the kubelet's runtime API, which has not changed since before the CRI. */
const KUBELET_API_VERSION = '0.1.0'

type NodeMethods = Pick<RuntimeServiceHandlers, 'Version' | 'Status' | 'RuntimeConfig' | 'UpdateRuntimeConfig'>

/** The methods that concern the node as a whole. */
export function nodeHandlers(
  options: { readonly runtimeVersion: string },
  deps: HandlerDeps & { readonly node: NodeStatus },
): NodeMethods {
  const { node } = deps
  return {
    Version: unary(
      async () => ({
        version: KUBELET_API_VERSION,
        runtime_name: 'sandboxerd',
        runtime_version: options.runtimeVersion,
        runtime_api_version: 'v1',
      }),
      deps,
    ),
    Status: unary(
      async ({ verbose }) => ({
        status: {
          conditions: [
            toCondition('RuntimeReady', node.runtimeCondition()),
            toCondition('NetworkReady', node.networkCondition()),
          ],
        },
        runtime_handlers: node.runtimeHandlers().map((handler) => ({
          name: handler.name,
          features: {
            recursive_read_only_mounts: handler.hasRecursiveReadOnlyMounts,
            user_namespaces: handler.hasUserNamespaces,
          },
        })),
        features: { supplemental_groups_policy: true, user_namespaces_host_network: false, mount_options: false },
        info: verbose ? jsonValues(node.verbose()) : {},
      }),
      deps,
    ),
    RuntimeConfig: unary(
      async () => ({ linux: { cgroup_driver: node.cgroupDriver === 'systemd' ? 'SYSTEMD' : 'CGROUPFS' } }),
      deps,
    ),
    UpdateRuntimeConfig: unary(async ({ runtime_config: config }) => {
      if (config === null) throw invalidField('runtime_config', 'is missing')
      const cidrs = parsePodCidrs('runtime_config.network_config.pod_cidr', config.network_config?.pod_cidr ?? '')
      if (cidrs.length > 0) node.updatePodCidrs(cidrs)
      return {}
    }, deps),
  }
}

function toCondition(type: string, { isTrue, reason, message }: Condition): RuntimeCondition {
  return { type, status: isTrue, reason, message }
}

function jsonValues(topics: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(topics).map(([topic, value]) => [topic, canonicalJson(value ?? null)]))
}
