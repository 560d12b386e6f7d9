import { CodedError } from '../core/errors.ts'
import type { MountPropagation__Output } from '../generated/runtime/v1/MountPropagation.ts'

export interface PropagationWish {
  /** The path of the mount in its request, for errors. */
  readonly field: string
  /** Absolute and without links. */
  readonly path: string
  readonly propagation: MountPropagation__Output
}

interface MountPoint {
  readonly path: string
  readonly isShared: boolean
  readonly isSlave: boolean
}

/**
 * That mounts made later under these paths can reach the container, and the other way round for BIDIRECTIONAL: what is
 * bound from a private mount never does, whatever the options say (mount_namespaces(7)).
 *
 * @param mountInfo reads /proc/self/mountinfo; called only when a mount is not private.
 * @throws CodedError `FailedPrecondition` naming the mount that is in the way.
 */
export async function requirePropagation(
  wishes: readonly PropagationWish[],
  mountInfo: () => Promise<string>,
): Promise<void> {
  const open = wishes.filter(({ propagation }) => propagation !== 'PROPAGATION_PRIVATE')
  if (open.length === 0) return
  const points = parseMountInfo(await mountInfo())
  for (const { field, path, propagation } of open) {
    const point = mountPointOf(path, points)
    const isBidirectional = propagation === 'PROPAGATION_BIDIRECTIONAL'
    if (point.isShared || (point.isSlave && !isBidirectional)) continue
    const wanted = isBidirectional ? 'shared' : 'shared or slave'
    throw new CodedError(
      'FailedPrecondition',
      `${field}.propagation: ${path} is on the mount ${point.path}, which is not a ${wanted} mount`,
    )
  }
}

function parseMountInfo(text: string): MountPoint[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const fields = line.split(' ')
      const optional = fields.slice(6, fields.indexOf('-', 6))
      return {
        path: unescape(fields[4] ?? ''),
        isShared: optional.some((field) => field.startsWith('shared:')),
        isSlave: optional.some((field) => field.startsWith('master:')),
      }
    })
}

/** The kernel writes white space and backslashes as octal numbers. */
function unescape(text: string): string {
  if (!text.includes('\\')) return text
  const bytes = Buffer.from(text).toString('latin1')
  const plain = bytes.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
  return Buffer.from(plain, 'latin1').toString()
}

/** The deepest mount above the path; of several on one directory the last, which lies on top. */
function mountPointOf(path: string, points: readonly MountPoint[]): MountPoint {
  let found: MountPoint = { path: '/', isShared: false, isSlave: false }
  for (const point of points) {
    const isAbove = point.path === '/' || path === point.path || path.startsWith(`${point.path}/`)
    if (isAbove && point.path.length >= found.path.length) found = point
  }
  return found
}
