import { statfs } from 'node:fs/promises'
import { errnoOf } from '../../core/errors.ts'

/** The file system of namespace files (`NSFS_MAGIC`). */
export const NSFS_MAGIC = 0x6e736673

const NOTHING_THERE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']

/** Whether a namespace is mounted at `path`. False when nothing is there, or only the file it was pinned on. */
export async function isPinnedNamespace(path: string): Promise<boolean> {
  if (path === '') return false
  try {
    return (await statfs(path)).type === NSFS_MAGIC
  } catch (error) {
    if (NOTHING_THERE.includes(errnoOf(error) ?? '')) return false
    throw error
  }
}
