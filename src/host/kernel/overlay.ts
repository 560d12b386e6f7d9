import { closeSync, mkdirSync, openSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { OverlayRequest } from './kernel.ts'
import { type Libc, MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY } from '../libc.ts'

// Overlay mounts. For the kernel thread: it changes the working directory of the thread.

/** Where the overlay is made in the workshop; the layers beside it are called `0`, `1`, …. */
const MERGED = 'merged'

export function mountOverlay(libc: Libc, request: OverlayRequest): void {
  mkdirSync(request.path, { recursive: true, mode: 0o755 })
  if (request.userns === undefined) mountLayers(libc, request, request.path)
  else mountMappedLayers(libc, request, request.userns)
}

/**
 * The layers are mounted with the ids of the user namespace, and the overlay made of these mounts. Before Linux 6.15
 * overlayfs takes only mounts that are attached somewhere: that is a tmpfs on the very path on which the overlay is
 * wanted, so that whoever unmounts that path takes all of it away, whenever we died. The overlay keeps its layers when
 * they are unmounted.
 */
function mountMappedLayers(libc: Libc, request: OverlayRequest, userns: string): void {
  const { path } = request
  libc.mount('workshop', path, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, 'mode=700,size=1m')
  let merged: number
  try {
    libc.mount('none', path, null, MS_PRIVATE, null)
    const usernsFd = openSync(userns, 'r')
    try {
      for (const [index, layer] of request.lower.entries()) mountMapped(libc, layer, join(path, `${index}`), usernsFd)
    } finally {
      closeSync(usernsFd)
    }
    const target = join(path, MERGED)
    mkdirSync(target)
    mountLayers(libc, { ...request, lower: request.lower.map((_, index) => join(path, `${index}`)) }, target)
    merged = libc.openTree(target)
  } finally {
    libc.umount(path, MNT_DETACH)
  }
  try {
    libc.moveMount(merged, path)
  } finally {
    libc.close(merged)
  }
}

function mountMapped(libc: Libc, source: string, target: string, usernsFd: number): void {
  mkdirSync(target)
  const tree = libc.openTree(source)
  try {
    libc.mapMountIds(tree, usernsFd)
    libc.moveMount(tree, target)
  } finally {
    libc.close(tree)
  }
}

/** The options of a mount are one page: layers are named from the directory in which they are. */
function mountLayers(libc: Libc, { lower, writable }: OverlayRequest, target: string): void {
  const base = dirname(lower[0] ?? '/')
  const layers = lower.map((layer) => (dirname(layer) === base ? basename(layer) : layer))
  // A mount that nobody writes to wants two layers at least; what it is mounted on is empty.
  if (!writable && layers.length === 1) layers.push(target)
  const options = [`lowerdir=${layers.map(escapeOption).join(':')}`]
  // `volatile`: what a container writes need not survive a crash of the node, since the container does not.
  if (writable) {
    options.push(`upperdir=${escapeOption(writable.upper)}`, `workdir=${escapeOption(writable.work)}`, 'volatile')
  }
  libc.chdir(base)
  try {
    libc.mount('overlay', target, 'overlay', writable ? 0 : MS_RDONLY, options.join(','))
  } finally {
    libc.chdir('/')
  }
}

function escapeOption(path: string): string {
  return path.replaceAll(/[\\,:]/g, String.raw`\$&`)
}
