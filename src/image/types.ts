import type { AuthConfig__Output } from '../generated/runtime/v1/AuthConfig.ts'
import type { TellProgress } from './pull-progress.ts'

/** What an image says about how to run it (image-spec 1.1, config.md); absent parts are empty. */
export interface ImageRunConfig {
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  /** `NAME=value`. */
  readonly env: readonly string[]
  readonly workingDir: string
  /** `user`, `uid`, `user:group` or `uid:gid`, as the image has it. */
  readonly user: string
  /** The name of a signal (`SIGQUIT`), or `''`. */
  readonly stopSignal: string
  /** Absolute paths in the container. */
  readonly volumes: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

/** One image of the node. A snapshot: reading it waits for nothing. */
export interface ImageView {
  /** The digest of its configuration, `sha256:…`: what the CRI calls the image's id. */
  readonly id: string
  /** `docker.io/library/busybox:latest`; sorted. */
  readonly repoTags: readonly string[]
  /** `docker.io/library/busybox@sha256:…`; sorted. */
  readonly repoDigests: readonly string[]
  readonly sizeBytes: bigint
  /** Not to be removed by the kubelet's garbage collection, nor by RemoveImage. */
  readonly pinned: boolean
  readonly config: ImageRunConfig
  /** The image's own configuration file, for verbose status. */
  readonly spec: unknown
}

export interface FilesystemUsage {
  readonly mountpoint: string
  readonly atNs: bigint
  readonly usedBytes: bigint
  readonly inodesUsed: bigint
}

/** The images of this node, as the front ends use them. */
export interface Images {
  /**
   * Pulls an image and returns its id. The same image pulled twice at once is downloaded once; when `signal` aborts, the
   * caller stops waiting, and what nobody waits for any more is ended.
   * @param tell hears how far it is.
   * @throws CodedError `InvalidArgument` naming the field, `NotFound`, `PermissionDenied` (the registry refuses),
   * `Unavailable` (it cannot be reached), `ResourceExhausted` (no space).
   */
  pull(
    request: { readonly image: string; readonly auth: AuthConfig__Output | null },
    signal: AbortSignal,
    tell?: TellProgress,
  ): Promise<string>
  /** By tag, digest, `sha256:` id, or hex id or the beginning of it (12 characters at least); undefined when there is none. */
  get(image: string): ImageView | undefined
  /** Sorted by id. With `image`: only the one that it means. */
  list(image?: string): ImageView[]
  /**
   * Removes the image with all its references. Unknown ones succeed.
   * @throws CodedError `FailedPrecondition` when a container uses it, or it is pinned.
   */
  remove(image: string, signal: AbortSignal): Promise<void>
  fsInfo(signal: AbortSignal): Promise<{ readonly images: FilesystemUsage; readonly containers: FilesystemUsage }>
}

/** What containers need of the image store. */
export interface ImageRootfs {
  /**
   * The image, which cannot be removed before the hold is disposed.
   * @throws CodedError `NotFound` when there is none.
   */
  hold(image: string): ImageView & Disposable
  /** The layers of an image as overlayfs lower directories, the topmost first: absolute paths, at most 128. */
  lowerDirs(imageId: string): readonly string[]
}
