import { readdirSync, readFileSync } from 'node:fs'
import { CodedError } from '../core/errors.ts'
import { Thread } from '../core/thread.ts'
import type { CgroupRequest } from './cgroup-reader.ts'
import type { CgroupReading } from './cgroup-reading.ts'
import { findHierarchies } from './hierarchies.ts'
import type { NetworkReading, NetworkRequest } from './net-dev.ts'
import type { LayerFileSystem } from './types.ts'

export interface ReadRequest {
  readonly cgroup: CgroupRequest | null
  readonly network: NetworkRequest | null
}

export interface ReadAnswer {
  /** Null when it is not there. */
  readonly cgroup: CgroupReading | null
  readonly network: NetworkReading | null
  /** Why it could not be read; `''` otherwise. */
  readonly failure: string
}

interface ReaderCalls {
  read: readonly [readonly ReadRequest[], readonly ReadAnswer[]]
  fileSystem: readonly [string, LayerFileSystem]
}

/** Reads what the kernel tells of cgroups and namespaces. */
export interface Reader {
  /** The answers, in the order of the requests. @throws CodedError `DeadlineExceeded` when the kernel does not answer. */
  read(requests: readonly ReadRequest[]): Promise<readonly ReadAnswer[]>
  fileSystem(path: string): Promise<LayerFileSystem>
}

/** So many at a time, so that no answer holds the event loop up while it is taken over. */
const BATCH = 50

/**
 * Reads on a thread of its own, where synchronous reads hold nobody up. It starts with the first question, and is given
 * up when it gets stuck in the kernel.
 */
export class ThreadReader implements Reader, AsyncDisposable {
  readonly #timeoutMs: number
  #thread: Thread<ReaderCalls> | undefined

  constructor(options: { readonly timeoutMs: number }) {
    this.#timeoutMs = options.timeoutMs
  }

  async read(requests: readonly ReadRequest[]): Promise<readonly ReadAnswer[]> {
    const answers: ReadAnswer[] = []
    for (let at = 0; at < requests.length; at += BATCH) {
      answers.push(...(await this.#call('read', requests.slice(at, at + BATCH))))
    }
    return answers
  }

  async fileSystem(path: string): Promise<LayerFileSystem> {
    return this.#call('fileSystem', path)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.[Symbol.asyncDispose]()
  }

  async #call<M extends keyof ReaderCalls>(method: M, argument: ReaderCalls[M][0]): Promise<ReaderCalls[M][1]> {
    if (!this.#thread || this.#thread.dead) this.#thread = startThread()
    const thread = this.#thread
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new CodedError('DeadlineExceeded', `${method} of statistics: no end after ${this.#timeoutMs} ms`))
        thread.abandon(`stuck in ${method}`)
      }, this.#timeoutMs)
    })
    try {
      return await Promise.race([thread.call(method, argument), late])
    } finally {
      clearTimeout(timer)
    }
  }
}

function startThread(): Thread<ReaderCalls> {
  return new Thread<ReaderCalls>('stats', new URL('./stats-thread.ts', import.meta.url), {
    hierarchies: findHierarchies(readFileSync('/proc/self/mountinfo', 'latin1')),
    hugePageSizes: hugePageSizes(),
    proc: '/proc',
    sys: '/sys',
  })
}

/** As the hugetlb controller names them: `2MB` for `hugepages-2048kB`. */
function hugePageSizes(): string[] {
  let names: string[]
  try {
    names = readdirSync('/sys/kernel/mm/hugepages')
  } catch {
    // A kernel without huge pages.
    return []
  }
  return names.map((name) => {
    const kib = Number(name.replace(/\D/g, ''))
    if (kib >= 1024 * 1024) return `${kib / (1024 * 1024)}GB`
    return kib >= 1024 ? `${kib / 1024}MB` : `${kib}KB`
  })
}
