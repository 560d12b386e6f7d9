import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../../src/core/errors.ts'
import { type PasswordInput, readPassword } from '../../../../src/ctl/pull/password.ts'

const never = new AbortController().signal

/** A terminal that notes its modes. */
function terminal(): { readonly input: PasswordInput & PassThrough; readonly modes: boolean[] } {
  const modes: boolean[] = []
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: (isRaw: boolean) => modes.push(isRaw) })
  return { input, modes }
}

describe('readPassword', () => {
  it('takes the first line of what is no terminal, and asks for nothing', async () => {
    const input = new PassThrough()
    const shown: string[] = []
    const password = readPassword(input, (text) => shown.push(text), never)
    input.write('s e')
    input.write('cret\nmore\n')
    expect(await password).toBe('s ecret')
    expect(shown).toEqual([])
  })

  it('takes what stands before the end, and refuses nothing at all', async () => {
    const [whole, empty] = [new PassThrough(), new PassThrough()]
    const passwords = [whole, empty].map((input) => readPassword(input, () => undefined, never))
    whole.end('secret')
    empty.end()
    expect(await passwords[0]).toBe('secret')
    await expect(passwords[1]).rejects.toMatchObject({ code: 'InvalidArgument' })
  })

  it('shows nothing on a terminal, and gives it back', async () => {
    const { input, modes } = terminal()
    const shown: string[] = []
    const password = readPassword(input, (text) => shown.push(text), never)
    input.write('wrong\u0015sex\u007fcret\r')
    expect(await password).toBe('secret')
    expect(shown).toEqual(['Password: ', '\n'])
    expect(modes).toEqual([true, false])
  })

  it('ends with Ctrl-C and with the signal', async () => {
    const { input, modes } = terminal()
    const typed = readPassword(input, () => undefined, never)
    input.write('abc\u0003')
    await expect(typed).rejects.toMatchObject({ code: 'Canceled' })
    const leaving = new AbortController()
    const waiting = readPassword(input, () => undefined, leaving.signal)
    leaving.abort(new CodedError('Canceled', 'enough'))
    await expect(waiting).rejects.toThrow('enough')
    expect(modes).toEqual([true, false, true, false])
  })
})
