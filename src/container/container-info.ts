import { join } from 'node:path'
import { readTextIfAny } from '../host/files.ts'
import type { Container } from './container.ts'
import { type ContainerRoots, containerPaths } from './paths.ts'
import type { ContainerInfo } from './types.ts'

/** Everything there is to know about one container, for people. */
export async function containerInfo(container: Container, roots: ContainerRoots): Promise<ContainerInfo> {
  const { metadata, status } = container
  const paths = containerPaths(roots, metadata.id)
  const text = await readTextIfAny(join(paths.stateDir, 'config.json'))
  return {
    id: metadata.id,
    name: metadata.name,
    sandboxId: metadata.sandboxId,
    state: status.state,
    pid: status.process?.pid ?? 0,
    process: status.process,
    exit: status.exit && { ...status.exit, atNs: status.exit.atNs.toString() },
    oomKilled: status.oomKilled,
    message: status.message,
    createdAtNs: metadata.createdAtNs.toString(),
    imageId: metadata.imageId,
    rootfs: paths.rootfs,
    logPath: metadata.logPath,
    quarantined: container.quarantined,
    ledger: container.entries.map(({ seq, kind, state, record }) => ({ seq, kind, state, record })),
    config: { ...metadata.config, envs: metadata.config.envs.map(({ key, value }) => `${key}=${value.toString()}`) },
    runtimeSpec: text === undefined ? null : (JSON.parse(text) as unknown),
  }
}
