import type { OutputName } from '../attach/records.ts'
import type { LogTarget } from './cri-log.ts'

/** A FIFO, and what comes out of it. */
export interface OutputFifo {
  readonly stream: OutputName
  readonly path: string
}

/** Something that could not be written. */
export interface OutputTrouble {
  readonly key: number
  readonly message: string
}

/** What an output thread is asked. A container has a key, and each stream of a client's an id. */
export interface OutputCalls {
  open: readonly [
    {
      readonly key: number
      readonly fifos: readonly OutputFifo[]
      readonly log: LogTarget | null
      /** The container prints already, and does not wait for its log: that can be had later, by `reopen`. */
      readonly isResumed: boolean
    },
    void,
  ]
  /** Answered when all that was printed is in the log, and nobody can print any more. */
  finish: readonly [number, void]
  reopen: readonly [number, void]
  close: readonly [number, void]
  tee: readonly [
    { readonly key: number; readonly ids: readonly number[]; readonly streams: readonly OutputName[] },
    void,
  ]
  /** What comes next, as soon as there is something; null after the last. */
  readTee: readonly [number, Uint8Array | null]
  closeTee: readonly [number, void]
  /** The next thing that goes wrong. */
  trouble: readonly [null, OutputTrouble]
}
