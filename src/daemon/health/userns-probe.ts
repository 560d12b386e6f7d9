import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CodedError, errorMessage } from '../../core/errors.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'

/**
 * Tries what pods in user namespaces need of the kernel and of the file system of the image layers.
 * @param options.directory where to try it: on that file system, and not there otherwise.
 * @param options.entered directories that the root of such a pod has to get to.
 * @returns why it cannot be done; `''` when it can.
 */
export async function whyNoUserNamespaces(
  options: { readonly directory: string; readonly entered: readonly string[] },
  deps: { readonly kernel: Kernel },
): Promise<string> {
  try {
    for (const path of options.entered) await checkOpen(path)
    await deps.kernel.tryUserns(options.directory)
    return ''
  } catch (error) {
    return errorMessage(error)
  }
}

/** Users of the node that are nobody in particular go through a directory by the last of its bits. */
async function checkOpen(path: string): Promise<void> {
  const { mode } = await stat(path)
  if ((mode & 0o001) === 0) throw new CodedError('FailedPrecondition', `${path}: other users cannot go through it`)
  if (path !== dirname(path)) await checkOpen(dirname(path))
}
