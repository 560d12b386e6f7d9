import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { CodedError, invalidField } from '../../core/errors.ts'
import type { Failpoints } from '../../core/failpoints.ts'
import { removeTree } from '../../host/files.ts'
import { expectSuccess, type RunProgram, type RunResult } from '../../host/programs/outcome.ts'
import { removePartial } from './stages.ts'

/** The one file in the directory of a pod's checkpoint. */
export const POD_ARCHIVE = 'checkpoint.tar'

export interface ArchiveDeps {
  readonly run: RunProgram
  readonly timeoutMs: number
  readonly maxBytes: number
}

/**
 * Makes sure that a pod can be checkpointed into a directory. Programs look at places of the caller's, which may hang.
 * @throws CodedError `InvalidArgument` for anything but an empty directory.
 */
export async function checkOutputDirectory(path: string, deps: ArchiveDeps, signal: AbortSignal): Promise<void> {
  const type = await typeOf(path, deps, signal)
  if (type !== 'directory') throw invalidField('output_path', `there is ${type || 'nothing'} in place of a directory`)
  const list = ['-P', path, '-mindepth', '1', '-maxdepth', '1', '-print', '-quit']
  const { stdout } = await program('/usr/bin/find', list, deps, signal)
  if (stdout !== '') throw invalidField('output_path', 'is not empty')
}

/** @throws CodedError `FailedPrecondition` for a place where there is a link or anything but a file. */
export async function checkLocation(path: string, deps: ArchiveDeps, signal: AbortSignal): Promise<void> {
  const type = await typeOf(path, deps, signal)
  if (type === '' || type.startsWith('regular')) return
  throw new CodedError('FailedPrecondition', `location: there is a ${type} in place of a file`)
}

/**
 * Packs `stage/files` into an archive at a place of the caller's, which only root can read: whole, or not at all. What is
 * packed is removed from the stage.
 *
 * @param members what the archive begins with, in that order.
 * @param partial where it grows, beside its place.
 * @throws CodedError `ResourceExhausted` when it is larger than allowed; then nothing is left of it.
 */
export async function writeArchive(
  request: {
    readonly stage: string
    readonly members: readonly string[]
    readonly partial: string
    readonly destination: string
  },
  deps: ArchiveDeps & { readonly failpoints: Failpoints },
  signal: AbortSignal,
): Promise<void> {
  const { stage, members, partial, destination } = request
  const files = join(stage, 'files')
  const archive = join(stage, 'archive.tar')
  const plain = ['--format=posix', '--sort=name', '--numeric-owner', '--owner=0', '--group=0', '--mode=u=rwX,go=']
  await program(
    '/usr/bin/tar',
    ['--create', `--file=${archive}`, ...plain, '-C', files, '--', ...members],
    deps,
    signal,
  )
  await removeTree(files)
  const { size } = await stat(archive)
  if (size > deps.maxBytes) {
    throw new CodedError('ResourceExhausted', `checkpoint: ${size} bytes are more than checkpoint.max_bytes allows`)
  }
  try {
    // Nobody else can have made it, and no link is followed.
    const copy = ['-c', 'umask 077; exec dd "$@"', 'dd', `if=${archive}`, `of=${partial}`, 'bs=1M', 'conv=excl,fsync']
    await program('/bin/sh', [...copy, 'oflag=nofollow', 'status=none'], deps, signal)
    await deps.failpoints.hit('container-checkpoint.copied', signal)
    await program('/bin/mv', ['-T', '--', partial, destination], deps, signal)
    await program('/bin/sync', ['--', dirname(destination)], deps, signal)
  } catch (error) {
    await removePartial(partial, deps.run)
    throw error
  }
}

/**
 * Copies the archive of a pod's checkpoint from a place of the caller's to one of ours, where nobody changes it any more.
 * @throws CodedError `NotFound`, `InvalidArgument` for anything but a file, `ResourceExhausted`.
 */
export async function fetchArchive(
  request: { readonly directory: string; readonly copy: string },
  deps: ArchiveDeps,
  signal: AbortSignal,
): Promise<void> {
  const { directory, copy } = request
  const path = join(directory, POD_ARCHIVE)
  const type = await typeOf(path, deps, signal)
  if (type === '') throw new CodedError('NotFound', `checkpoint_path: there is no ${POD_ARCHIVE} in ${directory}`)
  if (!type.startsWith('regular')) throw invalidField('checkpoint_path', `${POD_ARCHIVE} is a ${type}`)
  // One byte more than allowed tells that there is more; whatever has taken its place meanwhile is not waited for.
  const limit = ['iflag=nofollow,nonblock,count_bytes,fullblock', `count=${deps.maxBytes + 1}`, 'bs=1M', 'status=none']
  await program('/bin/dd', [`if=${path}`, `of=${copy}`, 'conv=excl', ...limit], deps, signal)
  const { size } = await stat(copy)
  if (size > deps.maxBytes) {
    throw new CodedError(
      'ResourceExhausted',
      'checkpoint_path: the checkpoint is larger than checkpoint.max_bytes allows',
    )
  }
}

/** Unpacks an archive whose members are known to be files and directories. */
export async function unpackArchive(
  request: { readonly archive: string; readonly directory: string },
  deps: ArchiveDeps,
  signal: AbortSignal,
): Promise<void> {
  const { archive, directory } = request
  const plain = ['--no-same-owner', '--no-same-permissions', '--keep-old-files', '--no-xattrs', '--no-acls']
  await program('/usr/bin/tar', ['--extract', `--file=${archive}`, ...plain, '-C', directory], deps, signal)
}

/** The SHA-256 of files of ours, by their paths relative to a directory. */
export async function hashFiles(
  directory: string,
  paths: readonly string[],
  deps: ArchiveDeps,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const hashes = new Map<string, string>()
  // As many as a command line surely takes.
  for (let from = 0; from < paths.length; from += 1000) {
    const some = paths.slice(from, from + 1000)
    const args = ['--zero', '--', ...some.map((path) => join(directory, path))]
    const { stdout } = await program('/usr/bin/sha256sum', args, deps, signal)
    for (const [at, line] of stdout.split('\0').entries()) {
      const path = some[at]
      if (path !== undefined) hashes.set(path, line.slice(0, 64))
    }
  }
  return hashes
}

/** What there is, as stat(1) calls it (`directory`, `regular empty file`, …); links are not followed. `''` is nothing. */
async function typeOf(path: string, deps: ArchiveDeps, signal: AbortSignal): Promise<string> {
  const options = { timeoutMs: deps.timeoutMs, signal }
  const { stdout } = await deps.run('/usr/bin/stat', ['--format=%F', '--', path], options)
  return stdout.trim()
}

async function program(
  file: string,
  args: readonly string[],
  { run, timeoutMs }: ArchiveDeps,
  signal: AbortSignal,
): Promise<RunResult> {
  return expectSuccess(file, args, await run(file, args, { timeoutMs, signal }))
}
