import { copyFile, mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'

const APPLETS = ['sh', 'sleep', 'echo', 'cat', 'true', 'false', 'hostname', 'ls', 'id', 'kill']

/** A root file system with Debian's busybox, for containers that others make the bundles of. */
export async function makeBusyboxRoot(dir: string): Promise<string> {
  for (const name of ['bin', 'proc', 'dev', 'sys', 'etc', 'tmp']) await mkdir(join(dir, name), { recursive: true })
  await copyFile('/bin/busybox', join(dir, 'bin/busybox'))
  for (const name of APPLETS) await symlink('busybox', join(dir, 'bin', name))
  return dir
}
