import { CodedError } from '../../core/errors.ts'
import { Thread } from '../../core/thread.ts'

/** Paths at which namespaces are pinned (bind-mounted). */
export interface Namespaces {
  readonly net?: string
  readonly ipc?: string
  readonly uts?: string
}

export interface PinRequest {
  /** The kinds of namespace to make, and the paths to pin them at. The paths must not exist yet. */
  readonly create: Namespaces
  /** Existing namespaces to be in while `sysctls` are written. */
  readonly enter?: Namespaces
  /** Where the user namespace is pinned that shall own the new ones; the node's without it. */
  readonly userns?: string
  /** For a new UTS namespace. */
  readonly hostname?: string
  readonly sysctls?: Readonly<Record<string, string>>
}

export interface UsernsRequest {
  readonly path: string
  readonly uids: readonly IdRange[]
  readonly gids: readonly IdRange[]
}

/** `size` ids of the node from `hostID` on are `containerID` and those that follow in the namespace. */
export interface IdRange {
  readonly containerID: number
  readonly hostID: number
  readonly size: number
}

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface TmpfsRequest {
  readonly path: string
  readonly sizeBytes: number
  readonly mode: number
  /** Root without it. */
  readonly owner?: Owner
}

/** Lower directories, the topmost first; without `upper` and `work` the mount is read-only. */
export interface OverlayRequest {
  /** Absolute; made when it is missing. */
  readonly path: string
  readonly lower: readonly string[]
  readonly writable?: { readonly upper: string; readonly work: string }
  /**
   * Where a user namespace is pinned: the files of the lower directories belong to whom it makes of their owners. Nothing
   * of them is changed. `upper` belongs to whom it belongs.
   */
  readonly userns?: string
}

export interface FileInRoot {
  readonly root: string
  /** Absolute, as a process sees it for which `root` is `/`. */
  readonly path: string
  readonly maxBytes: number
}

export interface DirectoryInRoot extends Omit<FileInRoot, 'maxBytes'> {
  /** Of what is made; root without it. */
  readonly owner?: Owner
}

export interface KernelCalls {
  pin: readonly [PinRequest, void]
  pinUserns: readonly [UsernsRequest, void]
  tryUserns: readonly [string, void]
  unpin: readonly [string, void]
  mountTmpfs: readonly [TmpfsRequest, void]
  bindMount: readonly [{ source: string; path: string }, void]
  mountOverlay: readonly [OverlayRequest, void]
  readInRoot: readonly [FileInRoot, string | null]
  resolveInRoot: readonly [{ root: string; path: string }, string]
  makeDirectoryInRoot: readonly [DirectoryInRoot, void]
  readInNetns: readonly [{ netns: string; path: string }, string]
  tcpSocket: readonly [{ netns: string; family: 4 | 6 }, number]
  unmount: readonly [string, void]
  applySysctls: readonly [{ namespaces: Namespaces; sysctls: Readonly<Record<string, string>> }, void]
  addresses: readonly [string, readonly string[]]
}

/**
 * Namespaces and mounts, by system calls on a thread of their own: `unshare` and `setns` act on the calling thread, so
 * that the event loop and libuv's pool never leave the host's namespaces, and a mount that hangs holds nobody else up.
 *
 * A call that has not ended by its deadline fails with `DeadlineExceeded`; the thread is then given up, and the calls
 * behind it fail with `Unavailable`, to be tried again on a new one.
 */
export class Kernel implements AsyncDisposable {
  readonly #main: KernelThread
  /** For what takes a program, so that nobody else waits for that; started when it is first needed. */
  readonly #programs: KernelThread

  constructor(options: { readonly timeoutMs: number }) {
    this.#main = new KernelThread(options.timeoutMs)
    this.#programs = new KernelThread(options.timeoutMs)
  }

  /**
   * Makes namespaces and pins them, with `lo` up in a new network namespace. All or nothing.
   * @throws CodedError when a path exists already, or a system call fails.
   */
  async pin(request: PinRequest): Promise<void> {
    await (request.userns === undefined ? this.#main : this.#programs).call('pin', request)
  }

  /**
   * Makes a user namespace with these mappings and pins it. All or nothing.
   * @throws CodedError when the path exists already, or the node makes none.
   */
  async pinUserns(request: UsernsRequest): Promise<void> {
    await this.#programs.call('pinUserns', request)
  }

  /**
   * Tries user namespaces and mounts with their ids in a directory, which is not there before and after, unless somebody
   * died in between. For the start, since it holds up everybody else.
   * @throws CodedError that says what the node, or the file system of the directory, cannot do.
   */
  async tryUserns(directory: string): Promise<void> {
    await this.#main.call('tryUserns', directory)
  }

  /** Unmounts what is on the path, however often, and removes the file. Nothing there is success. */
  async unpin(path: string): Promise<void> {
    await this.#main.call('unpin', path)
  }

  /** Mounts a tmpfs (nosuid, nodev, noexec), making its directory if need be. */
  async mountTmpfs(request: TmpfsRequest): Promise<void> {
    await this.#main.call('mountTmpfs', request)
  }

  /** Shows a directory or a mount at another directory, too. */
  async bindMount(request: { readonly source: string; readonly path: string }): Promise<void> {
    await this.#main.call('bindMount', request)
  }

  /** Mounts layers on one another (overlayfs). */
  async mountOverlay(request: OverlayRequest): Promise<void> {
    await this.#main.call('mountOverlay', request)
  }

  /**
   * The text of a regular file below a root that somebody else fills; null when there is none.
   * @throws CodedError `FailedPrecondition` when it is too large or no regular file.
   */
  async readInRoot(request: FileInRoot): Promise<string | null> {
    return this.#main.call('readInRoot', request)
  }

  /** Where a path below a root really is; the root must not change meanwhile. @throws CodedError `NotFound`. */
  async resolveInRoot(request: { readonly root: string; readonly path: string }): Promise<string> {
    return this.#main.call('resolveInRoot', request)
  }

  /** Makes a directory below a root that somebody else fills, with its parents; one that is there is success. */
  async makeDirectoryInRoot(request: DirectoryInRoot): Promise<void> {
    await this.#main.call('makeDirectoryInRoot', request)
  }

  /** A file of /proc as seen from inside a pinned network namespace. */
  async readInNetns(request: { readonly netns: string; readonly path: string }): Promise<string> {
    return this.#main.call('readInNetns', request)
  }

  /**
   * A TCP socket of a pinned network namespace: its descriptor, not connected and not blocking. A socket stays in the
   * namespace it was made in, whoever uses it, and keeps that alive. The caller closes it.
   */
  async tcpSocket(request: { readonly netns: string; readonly family: 4 | 6 }): Promise<number> {
    return this.#main.call('tcpSocket', request)
  }

  /** Unmounts everything on the path, lazily. Nothing mounted is success. */
  async unmount(path: string): Promise<void> {
    await this.#main.call('unmount', path)
  }

  /** Writes sysctls (dotted keys) as seen from inside the given namespaces. */
  async applySysctls(namespaces: Namespaces, sysctls: Readonly<Record<string, string>>): Promise<void> {
    await this.#main.call('applySysctls', { namespaces, sysctls })
  }

  /** The global addresses (CIDR form) of all interfaces but `lo` in a pinned network namespace. */
  async addresses(netnsPath: string): Promise<readonly string[]> {
    return this.#main.call('addresses', netnsPath)
  }

  /** Starts the thread, so that the first call does not have to wait for it. */
  warmUp(): void {
    this.#main.warmUp()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#main[Symbol.asyncDispose](), this.#programs[Symbol.asyncDispose]()])
  }
}

/** A thread that is started when it is first needed, and again when it was given up. */
class KernelThread implements AsyncDisposable {
  readonly #timeoutMs: number
  #thread: Thread<KernelCalls> | undefined

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  warmUp(): void {
    this.#running()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.[Symbol.asyncDispose]()
  }

  #running(): Thread<KernelCalls> {
    if (!this.#thread || this.#thread.dead) {
      this.#thread = new Thread<KernelCalls>('kernel', new URL('./kernel-thread.ts', import.meta.url))
    }
    return this.#thread
  }

  async call<M extends keyof KernelCalls>(method: M, argument: KernelCalls[M][0]): Promise<KernelCalls[M][1]> {
    const thread = this.#running()
    let timer: NodeJS.Timeout | undefined
    let last: NodeJS.Immediate | undefined
    const late = new Promise<never>((_, reject) => {
      const giveUp = (): void => {
        reject(new CodedError('DeadlineExceeded', `${method} in the kernel: no end after ${this.#timeoutMs} ms`))
        thread.abandon(`stuck in ${method}`)
      }
      // What was answered while the event loop was held up is heard first: it may be a descriptor.
      timer = setTimeout(() => {
        last = setImmediate(giveUp)
      }, this.#timeoutMs)
    })
    try {
      return await Promise.race([thread.call(method, argument), late])
    } finally {
      clearTimeout(timer)
      clearImmediate(last)
    }
  }
}
