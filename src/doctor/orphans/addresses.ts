import { readdir, readFile, unlink } from 'node:fs/promises'
import { isIP } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { errnoOf, errorMessage } from '../../core/errors.ts'
import type { OwnedResource } from '../../core/resource.ts'
import { holds, type Records } from '../records.ts'
import type { OrphanSource } from './orphans.ts'

export interface AddressesDeps {
  readonly records: Records
  /** Where host-local keeps the addresses of networks (`dataDir`); each network has a directory of its name there. */
  readonly dataDirs: () => Promise<readonly string[]>
  /**
   * Has the plugins of a network drop all that they have for a container; rules of the firewall, for instance, are theirs to
   * find. False where that network is not known any more.
   */
  readonly detach: (network: string, id: string, signal: AbortSignal) => Promise<boolean>
  readonly warn: (fields: Readonly<Record<string, unknown>>, message: string) => void
}

/**
 * Addresses that the plugin host-local has given to a pod that does not have them any more. A network may be that of another
 * runtime as well, so that the id in the file has to be one of ours. An empty file says nothing, and is left alone.
 */
export function orphanAddresses(deps: AddressesDeps): OrphanSource {
  const { records } = deps
  return {
    kind: 'orphan-address',
    what: 'address',
    remedy: 'given back',
    list: async () => {
      const lists = await Promise.all((await deps.dataDirs()).map(reservations))
      return lists.flat().filter(({ ownerId }) => records.isOwn(ownerId))
    },
    isThere: async ({ ownerId, subject }) => (await ownerOf(subject)) === ownerId,
    isHeld: ({ ownerId }) => holds(records, ownerId, 'cni'),
    release: (owned, signal) => giveBack(owned, deps, signal),
  }
}

async function giveBack({ ownerId, subject }: OwnedResource, deps: AddressesDeps, signal: AbortSignal): Promise<void> {
  try {
    await deps.detach(basename(dirname(subject)), ownerId, signal)
  } catch (error) {
    signal.throwIfAborted()
    deps.warn({ id: ownerId, subject, error: errorMessage(error) }, 'plugins do not give an address back')
  }
  // A plugin that is not there, or knows nothing of it any more, leaves the file.
  if ((await ownerOf(subject)) !== ownerId) return
  await unlink(subject).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error
  })
}

/** The files are named after the addresses, and begin with a line that says whose they are. */
async function reservations(dataDir: string): Promise<OwnedResource[]> {
  const networks = await namesIn(dataDir)
  const found: OwnedResource[] = []
  for (const network of networks) {
    for (const name of (await namesIn(join(dataDir, network))).filter((candidate) => isIP(candidate) !== 0)) {
      const subject = join(dataDir, network, name)
      const ownerId = await ownerOf(subject)
      if (ownerId !== '') found.push({ ownerId, subject })
    }
  }
  return found
}

/** `''` for one that is gone. */
async function ownerOf(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).split(/\r?\n/)[0]?.trim() ?? ''
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return ''
    throw error
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return []
    throw error
  }
}
