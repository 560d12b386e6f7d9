import { join } from 'node:path'

/** Where the files of sandboxes lie. */
export interface SandboxRoots {
  /** Survives a reboot. */
  readonly root: string
  /** Does not. */
  readonly state: string
}

/** The places of one sandbox; all follow from its id. */
export interface SandboxPaths {
  /** The checkpoint and the files that its containers see. */
  readonly rootDir: string
  /** Bundle, monitor files and shm. */
  readonly stateDir: string
  readonly checkpoint: string
  readonly networkSettings: string
  readonly hostname: string
  readonly hosts: string
  readonly resolvConf: string
  readonly shm: string
  /** Where its user namespace is pinned. */
  readonly userns: string
}

export function sandboxesDir(base: string): string {
  return join(base, 'sandboxes')
}

export function sandboxPaths(roots: SandboxRoots, id: string): SandboxPaths {
  const rootDir = join(sandboxesDir(roots.root), id)
  const stateDir = join(sandboxesDir(roots.state), id)
  return {
    rootDir,
    stateDir,
    checkpoint: join(rootDir, 'checkpoint.json'),
    networkSettings: join(rootDir, 'network_settings.json'),
    hostname: join(rootDir, 'hostname'),
    hosts: join(rootDir, 'hosts'),
    resolvConf: join(rootDir, 'resolv.conf'),
    shm: join(stateDir, 'shm'),
    userns: join(stateDir, 'user'),
  }
}
