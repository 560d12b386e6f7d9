import { join } from 'node:path'
import type { Config } from '../../config/config.ts'
import type { PauseProgram } from '../../controller/pause-container.ts'
import { buildPauseRootfs } from '../../controller/pause-rootfs.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import { CodedError } from '../../core/errors.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import type { ImageStore } from '../../image/image-store.ts'
import { PauseImage } from '../../image/pause-image.ts'

/** Where pause containers get their program from. */
export interface PauseSource {
  /** Makes sure that {@link program} is there to be run. */
  readonly ensure: (signal: AbortSignal) => Promise<void>
  /** @throws CodedError `FailedPrecondition` when it has to be pulled first. */
  readonly program: () => PauseProgram
}

/** The pause image where one is configured; otherwise the built-in root file system, which needs no registry. */
export async function openPauseSource(
  config: Config,
  { images, kernel }: { readonly images: ImageStore; readonly kernel: Kernel },
  parts: CleanupStack,
): Promise<PauseSource> {
  const directory = join(config.root, 'pause')
  const { image: reference, binary, args, stopSignal } = config.pause
  // The configuration admits only names of signals.
  if (reference === '') return builtIn(directory, binary, args, stopSignal as NodeJS.Signals)
  const rootfsPath = join(config.state, 'pause-rootfs')
  const image = parts.use(
    new PauseImage(
      { reference, directory, rootfsPath, pullTimeoutMs: config.timeouts.runPodSandboxMs },
      {
        images,
        mountReadonly: (lower, path) => kernel.mountOverlay({ path, lower }),
        unmount: (path) => kernel.unmount(path),
      },
    ),
  )
  await image.load()
  return { ensure: (signal) => image.ensure(signal), program: () => image.program() }
}

/** A node that lacks the program serves all the same: it says so when a pod wants it, and in its runtime condition. */
async function builtIn(
  directory: string,
  binary: string,
  args: readonly string[],
  stopSignal: NodeJS.Signals,
): Promise<PauseSource> {
  let built: PauseProgram | undefined
  const ensure = async (): Promise<void> => {
    if (built) return
    const { rootfsPath, programPath } = await buildPauseRootfs(directory, binary)
    built = { rootfsPath, args: [programPath, ...args], stopSignal }
  }
  await ensure().catch(() => undefined)
  return {
    ensure,
    program: () => {
      if (built) return built
      throw new CodedError(
        'FailedPrecondition',
        `use pause program ${binary}: there was none when it was last looked for`,
      )
    },
  }
}
