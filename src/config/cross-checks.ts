import { isRuncShim } from '../core/runtime-type.ts'
import type { Config, RuntimeHandlerConfig } from './config.ts'
import { addressPath, isLoopback, isWildcard, isWithin, socketProblem } from './rules.ts'
import { BUILT_IN_SANDBOXERS } from './schema.ts'

/** Two or more keys that do not go together. */
export interface CrossProblem {
  /** The key to blame. */
  readonly key: string
  readonly message: string
  /** The other keys it was derived from: when one of them is wrong by itself, this is no news. */
  readonly dependsOn: readonly string[]
}

/** All that is wrong between the keys of a configuration whose keys are right by themselves. */
export function crossProblems(config: Config): CrossProblem[] {
  return [
    ...directoryProblems(config),
    ...socketProblems(config),
    ...handlerProblems(config),
    ...runtimeRootProblems(config),
    ...sandboxerProblems(config),
    ...servedProblems(config),
    ...streamingProblems(config),
  ]
}

function directoryProblems({ root, state, netnsDir, checkpointKeyFile }: Config): CrossProblem[] {
  const problems: CrossProblem[] = []
  const add = (key: string, message: string, ...dependsOn: string[]): void => {
    problems.push({ key, message, dependsOn })
  }
  // Where image tools name them both in one argument.
  for (const [key, path] of Object.entries({ root, state })) {
    if (/[@+:,[\]]/.test(path)) add(key, 'must not contain any of @ + : , [ ], which image tools take for signs')
  }
  if (isWithin(root, state)) add('root', `must not be ${inside(root, state)} state, which ends with a reboot`, 'state')
  if (isWithin(root, netnsDir)) add('netns_dir', `root must not be ${inside(root, netnsDir)} it`, 'root')
  if (isWithin(state, netnsDir)) add('netns_dir', `state must not be ${inside(state, netnsDir)} it`, 'state')
  if (netnsDir === root || netnsDir === state) return problems
  if (isWithin(checkpointKeyFile, state) && !isWithin(root, state)) {
    add(
      'checkpoint_key_file',
      'must not be inside state: after a reboot no checkpoint could be verified',
      'state',
      'root',
    )
  }
  return problems
}

function inside(path: string, directory: string): string {
  return path === directory ? 'the same directory as' : 'inside'
}

function socketProblems({ cri, sandboxer, admin, state }: Config): CrossProblem[] {
  const problems: CrossProblem[] = []
  const taken = new Map<string, string>()
  for (const [key, { socket }] of Object.entries({
    'cri.socket': cri,
    'sandboxer.socket': sandboxer,
    'admin.socket': admin,
  })) {
    const message = socketProblem(socket)
    if (message !== undefined) problems.push({ key, message, dependsOn: ['state'] })
    if (socket === state) problems.push({ key, message: 'must not be the state directory', dependsOn: ['state'] })
    const other = taken.get(socket)
    if (other !== undefined) {
      problems.push({ key, message: `must not be the same as ${other}: ${socket}`, dependsOn: [other, 'state'] })
    }
    taken.set(socket, key)
  }
  return problems
}

function handlerProblems(config: Config): CrossProblem[] {
  const { runtimes, sandboxers, defaultRuntimeHandler } = config
  const problems: CrossProblem[] = []
  if (runtimes[defaultRuntimeHandler] === undefined) {
    problems.push({
      key: 'default_runtime_handler',
      message: `${JSON.stringify(defaultRuntimeHandler)} is not one of [runtimes]: ${list(Object.keys(runtimes))}`,
      dependsOn: [`runtimes.${defaultRuntimeHandler}`],
    })
  }
  for (const [name, handler] of Object.entries(runtimes)) {
    const { runtime, sandboxer } = handler
    const isBuiltIn = BUILT_IN_SANDBOXERS.includes(sandboxer)
    if (!isBuiltIn && sandboxers[sandboxer] === undefined) {
      problems.push({
        key: `runtimes.${name}.sandboxer`,
        message:
          `handler ${JSON.stringify(name)} names the sandboxer ${JSON.stringify(sandboxer)}, ` +
          `which is not one of: ${list([...BUILT_IN_SANDBOXERS, ...Object.keys(sandboxers)])}`,
        dependsOn: [`sandboxers.${sandboxer}`],
      })
    }
    problems.push(...shimProblems(name, handler))
    if (isBuiltIn && runtime === '' && (sandboxer !== 'shim-v2' || isRuncShim(handler.runtimeType))) {
      problems.push({
        key: `runtimes.${name}.runtime`,
        message: `must be an absolute path: the sandboxer ${sandboxer} needs an OCI runtime`,
        dependsOn: [`runtimes.${name}.sandboxer`],
      })
    }
  }
  return problems
}

function shimProblems(name: string, handler: RuntimeHandlerConfig): CrossProblem[] {
  const { runtimeType, runtimeConfig, sandboxer } = handler
  const problem = (key: string, message: string, ...dependsOn: string[]): CrossProblem => {
    const of = (member: string): string => `runtimes.${name}.${member}`
    return { key: of(key), message, dependsOn: dependsOn.map(of) }
  }
  if (sandboxer === 'shim-v2' && runtimeType === '') {
    return [problem('runtime_type', 'must be given: the sandboxer shim-v2 needs a shim', 'sandboxer')]
  }
  if (runtimeType !== '' && ['shim', 'pinned'].includes(sandboxer)) {
    return [problem('runtime_type', `must be empty: the sandboxer ${sandboxer} runs no containerd shims`, 'sandboxer')]
  }
  if (runtimeConfig !== '' && (runtimeType === '' || isRuncShim(runtimeType))) {
    return [problem('runtime_config', 'is only for a runtime_type other than that of runc', 'runtime_type')]
  }
  return []
}

/** crun and runc do not read each other's state: a directory shared by two of them shows containers that are broken. */
function runtimeRootProblems({ runtimes }: Config): CrossProblem[] {
  const problems: CrossProblem[] = []
  const owners = new Map<string, { name: string; runtime: string }>()
  for (const [name, { runtime, runtimeRoot }] of Object.entries(runtimes)) {
    const owner = owners.get(runtimeRoot)
    if (owner === undefined) owners.set(runtimeRoot, { name, runtime })
    else if (owner.runtime !== runtime) {
      problems.push({
        key: `runtimes.${name}.runtime_root`,
        message: `must not be shared with the handler ${JSON.stringify(owner.name)}, which has another runtime`,
        dependsOn: [`runtimes.${name}`, `runtimes.${owner.name}`, 'state'],
      })
    }
  }
  return problems
}

function sandboxerProblems({ sandboxers, sandboxer }: Config): CrossProblem[] {
  const problems: CrossProblem[] = []
  for (const [name, { address }] of Object.entries(sandboxers)) {
    const key = `sandboxers.${name}`
    if (BUILT_IN_SANDBOXERS.includes(name)) {
      problems.push({ key, message: `must have another name: ${name} is built in`, dependsOn: [] })
    }
    if (addressPath(address) === sandboxer.socket) {
      problems.push({
        key: `${key}.address`,
        message: `must not be the socket of this daemon: ${sandboxer.socket}`,
        dependsOn: ['sandboxer.socket', 'state'],
      })
    }
  }
  return problems
}

function servedProblems({ sandboxer, runtimes }: Config): CrossProblem[] {
  const { runtimeHandler, frontEndRoot, frontEndState } = sandboxer
  const problems: CrossProblem[] = []
  if (runtimeHandler !== '' && runtimes[runtimeHandler] === undefined) {
    problems.push({
      key: 'sandboxer.runtime_handler',
      message: `${JSON.stringify(runtimeHandler)} is not one of [runtimes]: ${list(Object.keys(runtimes))}`,
      dependsOn: [`runtimes.${runtimeHandler}`],
    })
  }
  if ((frontEndRoot === '') !== (frontEndState === '')) {
    const [missing, given] = frontEndRoot === '' ? ['root', 'state'] : ['state', 'root']
    problems.push({
      key: `sandboxer.front_end_${missing}`,
      message: `must be given with front_end_${given}`,
      dependsOn: [`sandboxer.front_end_${given}`],
    })
  }
  return problems
}

function streamingProblems({ streaming }: Config): CrossProblem[] {
  const { address, tlsCertFile, tlsKeyFile, tlsClientCaFile, baseUrl } = streaming
  const problems: CrossProblem[] = []
  const add = (key: string, message: string, ...dependsOn: string[]): void => {
    problems.push({ key: `streaming.${key}`, message, dependsOn: dependsOn.map((other) => `streaming.${other}`) })
  }
  if (!isLoopback(address) && tlsCertFile === '') {
    add(
      'address',
      `must be a loopback address without TLS: whoever reaches ${address} could read what clients type`,
      'tls_cert_file',
    )
  }
  if (isWildcard(address) && baseUrl === '')
    add('base_url', `must be given: clients cannot connect to ${address}`, 'address')
  if (tlsCertFile !== '' && tlsKeyFile === '') add('tls_key_file', 'must be given with tls_cert_file', 'tls_cert_file')
  if (tlsKeyFile !== '' && tlsCertFile === '') add('tls_cert_file', 'must be given with tls_key_file', 'tls_key_file')
  if (tlsClientCaFile !== '' && tlsCertFile === '') {
    add('tls_client_ca_file', 'must not be given without tls_cert_file', 'tls_cert_file')
  }
  return problems
}

function list(names: readonly string[]): string {
  return names.join(', ') || 'none given'
}
