import { chown, writeFile } from 'node:fs/promises'
import { hostname as nodeHostname } from 'node:os'
import { join } from 'node:path'
import { readTextIfAny } from '../host/files.ts'
import type { Owner } from '../host/kernel/kernel.ts'
import { hostnameFor, hostsFile, resolvConf } from './pod-files.ts'
import type { SandboxMetadata } from './types.ts'

/** Where and for whom the files are that the containers of a pod see in /etc. */
export interface PodFilesPlace {
  readonly directory: string
  /** Root without it. */
  readonly owner: Owner | null
}

/** The hostname that is in force in a pod. */
export function podHostname({ id, config, netMode }: SandboxMetadata): string {
  return hostnameFor({ hostname: config.hostname, netMode, id, nodeHostname: nodeHostname() })
}

/** Writes hostname and resolv.conf. */
export async function writeNames(metadata: SandboxMetadata, place: PodFilesPlace): Promise<void> {
  const host = await readTextIfAny('/etc/resolv.conf')
  await Promise.all([
    write(place, 'hostname', `${podHostname(metadata)}\n`),
    write(place, 'resolv.conf', resolvConf(metadata.config.dns_config, host)),
  ])
}

/** Writes hosts, with the pod's addresses as far as they are known. */
export async function writeHosts(
  metadata: SandboxMetadata,
  ips: readonly string[],
  place: PodFilesPlace,
): Promise<void> {
  const hostNetwork = metadata.netMode === 'host'
  const hostFile = hostNetwork ? await readTextIfAny('/etc/hosts') : undefined
  await write(place, 'hosts', hostsFile({ hostname: podHostname(metadata), ips, hostNetwork, hostFile }))
}

async function write({ directory, owner }: PodFilesPlace, name: string, text: string): Promise<void> {
  const path = join(directory, name)
  await writeFile(path, text, { mode: 0o644 })
  if (owner) await chown(path, owner.uid, owner.gid)
}
