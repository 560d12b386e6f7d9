import { join } from 'node:path'

/** Where the files of containers lie. */
export interface ContainerRoots {
  /** Survives a reboot. */
  readonly root: string
  /** Does not. */
  readonly state: string
}

/** The places of one container; all follow from its id. */
export interface ContainerPaths {
  /** The checkpoint, and what the container writes. */
  readonly rootDir: string
  /** The bundle: config.json, the monitor's files, and the mounts. */
  readonly stateDir: string
  readonly checkpoint: string
  /** The upper directory of its root file system. */
  readonly upper: string
  readonly work: string
  /** The images of criu that a restored container starts from. */
  readonly images: string
  /** Where its root file system is mounted. */
  readonly rootfs: string
}

export function containersDir(base: string): string {
  return join(base, 'containers')
}

export function containerPaths(roots: ContainerRoots, id: string): ContainerPaths {
  const rootDir = join(containersDir(roots.root), id)
  const stateDir = join(containersDir(roots.state), id)
  return {
    rootDir,
    stateDir,
    checkpoint: join(rootDir, 'checkpoint.json'),
    upper: join(rootDir, 'upper'),
    work: join(rootDir, 'work'),
    images: join(rootDir, 'images'),
    rootfs: join(stateDir, 'rootfs'),
  }
}

/** Where an image is mounted that a container wants to see; they are counted from 0. */
export function imageMountPath(paths: ContainerPaths, index: number): string {
  return join(paths.stateDir, `image-${index}`)
}
