import type { Readable } from 'node:stream'
import { abortReason } from '../../core/deadline.ts'
import { CodedError } from '../../core/errors.ts'

const MAX_CHARS = 64 * 1024
const ENTER = ['\r', '\n']
const BACKSPACE = ['\u007f', '\b']
const [CTRL_C, CTRL_D, CTRL_U] = ['\u0003', '\u0004', '\u0015']

/** Standard input, a terminal or not. */
export type PasswordInput = Readable & { readonly isTTY?: boolean; setRawMode?(isRaw: boolean): unknown }

/**
 * The first line of the input. On a terminal nothing of it is shown.
 * @throws CodedError `Canceled` for Ctrl-C, the reason of the signal, or `InvalidArgument` when there is none.
 */
export async function readPassword(
  input: PasswordInput,
  prompt: (text: string) => unknown,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted()
  const isTerminal = input.isTTY === true
  if (isTerminal) {
    prompt('Password: ')
    // The terminal neither shows what is typed nor makes a signal of Ctrl-C.
    input.setRawMode?.(true)
  }
  try {
    return await firstLine(input, isTerminal, signal)
  } finally {
    if (isTerminal) {
      input.setRawMode?.(false)
      prompt('\n')
    }
    // Standard input that is still read keeps the process.
    input.pause()
  }
}

function firstLine(input: PasswordInput, isTerminal: boolean, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const typed: string[] = []
    const finish = (end: () => void): void => {
      input.off('data', onData).off('end', onEnd).off('error', onError)
      signal.removeEventListener('abort', onAbort)
      end()
    }
    const fail = (error: Error): void => finish(() => reject(error))
    const onEnd = (): void => {
      const text = typed.join('')
      if (text === '') fail(new CodedError('InvalidArgument', 'read the password from standard input: there is none'))
      else finish(() => resolve(text))
    }
    const onError = (error: Error): void => fail(error)
    const onAbort = (): void => fail(abortReason(signal))
    const onData = (chunk: Buffer | string): void => {
      for (const char of chunk.toString()) {
        if (ENTER.includes(char)) return onEnd()
        if (isTerminal && char === CTRL_C) return fail(new CodedError('Canceled', 'read the password: given up'))
        if (isTerminal && char === CTRL_D) return onEnd()
        if (isTerminal && char === CTRL_U) typed.length = 0
        else if (isTerminal && BACKSPACE.includes(char)) typed.pop()
        else typed.push(char)
        if (typed.length > MAX_CHARS)
          return fail(new CodedError('InvalidArgument', 'read the password: it is too long'))
      }
    }
    input.on('data', onData).once('end', onEnd).once('error', onError)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
