import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import protobuf from 'protobufjs'
import { describe, expect, it } from 'vitest'

const PROTO_DIR = fileURLToPath(new URL('../../../proto/', import.meta.url))
/** The contracts as data, kept outside the repository. */
const API_DIR = fileURLToPath(new URL('../../../../shared/api/', import.meta.url))

const CONTRACTS = [
  { proto: 'runtime/v1/api.proto', api: 'cri-v1-0.37.json', packages: ['runtime.v1'] },
  {
    proto: 'containerd/services/sandbox/v1/sandbox.proto',
    api: 'containerd-sandbox-v1.json',
    packages: ['containerd.services.sandbox.v1', 'containerd.types'],
  },
  {
    proto: 'containerd/task/v3/task.proto',
    api: 'containerd-task-v3.json',
    packages: ['containerd.task.v3', 'containerd.v1.types', 'containerd.types'],
  },
  { proto: 'containerd/events/task.proto', api: 'containerd-task-events.json', packages: ['containerd.events'] },
  {
    proto: 'containerd/services/events/ttrpc/v1/events.proto',
    api: 'containerd-ttrpc-events.json',
    packages: ['containerd.services.events.ttrpc.v1', 'containerd.types'],
  },
  { proto: 'containerd/runc/v1/options.proto', api: 'containerd-runc-options.json', packages: ['containerd.runc.v1'] },
  {
    proto: 'io/containerd/cgroups/v1/metrics.proto',
    api: 'containerd-cgroups-v1-metrics.json',
    packages: ['io.containerd.cgroups.v1'],
  },
  {
    proto: 'io/containerd/cgroups/v2/metrics.proto',
    api: 'containerd-cgroups-v2-metrics.json',
    packages: ['io.containerd.cgroups.v2'],
  },
]

describe.each(CONTRACTS)('proto/$proto', ({ proto, api, packages }) => {
  it(`has the names, numbers and types of ${api}, and no others`, (context) => {
    if (!existsSync(API_DIR)) {
      // oxlint-disable-next-line no-console -- a check that did not happen must be seen
      console.warn(`proto/${proto} was NOT compared with the contract: ${API_DIR} is not there`)
      context.skip()
    }
    const data = JSON.parse(readFileSync(`${API_DIR}${api}`, 'utf8')) as protobuf.INamespace
    const contract = facts(protobuf.Root.fromJSON(data), packages)
    expect(contract.size).toBeGreaterThan(5)
    expect(Object.fromEntries(facts(ours(proto), packages))).toEqual(Object.fromEntries(contract))
  })
})

it('has the whole CRI: 43 calls', () => {
  const root = ours('runtime/v1/api.proto')
  const services = ['runtime.v1.RuntimeService', 'runtime.v1.ImageService'].map((name) => root.lookupService(name))
  expect(services.flatMap((service) => service.methodsArray)).toHaveLength(43)
})

function ours(proto: string): protobuf.Root {
  const root = new protobuf.Root()
  root.resolvePath = (_origin, target) => (protobuf.common.get(target) === null ? `${PROTO_DIR}${target}` : target)
  return root.loadSync(proto, { keepCase: true })
}

/** Everything that goes over the wire, one line each, by its full name. */
function facts(root: protobuf.Root, packages: readonly string[]): Map<string, string> {
  root.resolveAll()
  const found = new Map<string, string>()
  for (const name of packages) addFacts(root.lookup(name), found)
  return found
}

function addFacts(item: protobuf.ReflectionObject | null, found: Map<string, string>): void {
  if (item instanceof protobuf.Type) {
    found.set(item.fullName, 'message')
    for (const field of item.fieldsArray) found.set(field.fullName, fieldFact(field))
  }
  if (item instanceof protobuf.Enum) {
    found.set(item.fullName, 'enum')
    for (const [name, number] of Object.entries(item.values)) found.set(`${item.fullName}.${name}`, String(number))
  }
  if (item instanceof protobuf.Service) {
    found.set(item.fullName, 'service')
    for (const method of item.methodsArray) found.set(method.fullName, methodFact(method))
  }
  if (item instanceof protobuf.Namespace) for (const nested of item.nestedArray) addFacts(nested, found)
}

function fieldFact(field: protobuf.Field): string {
  const type = field.resolvedType?.fullName ?? field.type
  const label = field.repeated ? 'repeated ' : field.partOf ? `oneof ${field.partOf.name} ` : ''
  const whole = field instanceof protobuf.MapField ? `map<${field.keyType}, ${type}>` : `${label}${type}`
  const marks = ['deprecated', 'debug_redact'].filter((mark) => field.options?.[mark] === true)
  return [`${whole} = ${field.id}`, ...marks].join(' ')
}

function methodFact(method: protobuf.Method): string {
  const request = `${method.requestStream ? 'stream ' : ''}${method.resolvedRequestType?.fullName}`
  return `${request} -> ${method.responseStream ? 'stream ' : ''}${method.resolvedResponseType?.fullName}`
}
