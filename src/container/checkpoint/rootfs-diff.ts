import { CodedError } from '../../core/errors.ts'
import { expectSuccess, type RunOptions, type RunProgram } from '../../host/programs/outcome.ts'
import { readTar, type TarLimits, type TarMember } from './tar-reader.ts'

/** What overlayfs notes about its own layers, and would be wrong of others. */
const OWN_NOTES = ['origin', 'impure', 'uuid', 'nlink'].map((name) => `--xattrs-exclude=trusted.overlay.${name}`)
const ATTRIBUTES = ['--numeric-owner', '--acls', '--xattrs', '--xattrs-include=*']

/**
 * Saves what a container has changed in its root file system: the upper directory with its whiteouts, as a tar archive.
 * Nothing of the container may run meanwhile.
 * @throws CodedError `FailedPrecondition` when it has device nodes of its own.
 */
export async function saveRootfsDiff(
  request: { readonly upper: string; readonly file: string; readonly limits: TarLimits },
  run: RunProgram,
  options: Pick<RunOptions, 'timeoutMs' | 'signal'>,
): Promise<void> {
  const { upper, file, limits } = request
  const args = [
    '--create',
    `--file=${file}`,
    '--format=posix',
    '--sort=name',
    ...ATTRIBUTES,
    ...OWN_NOTES,
    '-C',
    upper,
    '.',
  ]
  expectSuccess('/usr/bin/tar', args, await run('/usr/bin/tar', args, options))
  await checkRootfsDiff(file, limits)
}

/**
 * Unpacks what {@link saveRootfsDiff} has saved into an upper directory, which is empty.
 * @throws CodedError as {@link checkRootfsDiff}, before anything is unpacked.
 */
export async function applyRootfsDiff(
  request: { readonly upper: string; readonly file: string; readonly limits: TarLimits },
  run: RunProgram,
  options: Pick<RunOptions, 'timeoutMs' | 'signal'>,
): Promise<void> {
  const { upper, file, limits } = request
  await checkRootfsDiff(file, limits)
  const args = ['--extract', `--file=${file}`, '--same-owner', '--preserve-permissions', ...ATTRIBUTES, '-C', upper]
  expectSuccess('/usr/bin/tar', args, await run('/usr/bin/tar', args, options))
}

/**
 * Looks at every member: a tree, where nothing is below anything but a directory, a hard link is to a member before it,
 * and the only devices are the whiteouts of overlayfs.
 * @throws CodedError `FailedPrecondition` for a device, otherwise as `readTar`.
 */
export async function checkRootfsDiff(file: string, limits: TarLimits): Promise<void> {
  const others = new Set<string>()
  const directories = new Set<string>()
  for await (const member of readTar(file, limits)) {
    const { path, type } = member
    if (others.has(path) || directories.has(path)) throw refused(member, 'is there twice')
    if (ancestors(path).some((ancestor) => others.has(ancestor))) throw refused(member, 'is below what is no directory')
    const isWhiteout = type === 'character' && member.major === 0 && member.minor === 0
    if ((type === 'character' || type === 'block') && !isWhiteout) {
      throw new CodedError(
        'FailedPrecondition',
        `root file system: ${JSON.stringify(path)} is a device, which is not restored`,
      )
    }
    if (type === 'hardlink' && !others.has(linkPath(member))) throw refused(member, 'is a link to what is not there')
    if (type === 'directory') directories.add(path)
    else others.add(path)
  }
}

function linkPath({ target }: TarMember): string {
  return target
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')
}

function ancestors(path: string): string[] {
  const parts = path.split('/')
  return parts.slice(1).map((_, at) => parts.slice(0, at + 1).join('/'))
}

function refused({ path }: TarMember, why: string): CodedError {
  return new CodedError('DataLoss', `read archive: ${JSON.stringify(path.slice(0, 200))} ${why}`)
}
