import type { Config } from '../../config/config.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import type { Observer } from '../../core/observer.ts'
import type { Libc } from '../../host/libc.ts'
import type { Programs } from '../../host/programs/programs.ts'
import { ImageStore } from '../../image/image-store.ts'
import { pauseImageName } from '../../image/pause-image.ts'
import type { Logger } from '../../telemetry/logger.ts'

export interface ImageParts {
  readonly programs: Programs
  readonly libc: Libc
  readonly usedBy: (imageId: string) => readonly string[]
  readonly observer: Observer
  readonly logger: Logger
}

/** What skopeo may need of the daemon's environment to reach a registry. */
const REGISTRY_VARIABLES = ['HOME', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'REGISTRY_AUTH_FILE', 'SSL_CERT_DIR']

/** The images of this node. */
export async function openImages(config: Config, given: ImageParts, parts: CleanupStack): Promise<ImageStore> {
  const { programs, ...deps } = given
  const store = await ImageStore.open(
    {
      ...config.images,
      root: config.root,
      state: config.state,
      pinned: config.pause.image === '' ? [] : [pauseImageName(config.pause.image)],
      env: registryEnvironment(),
    },
    { ...deps, run: programs.run },
  )
  return parts.use(store)
}

function registryEnvironment(): Record<string, string> {
  const names = [...REGISTRY_VARIABLES, ...REGISTRY_VARIABLES.map((name) => name.toLowerCase())]
  const env: Record<string, string> = {}
  for (const name of names) {
    const value = process.env[name]
    if (value !== undefined) env[name] = value
  }
  return env
}
