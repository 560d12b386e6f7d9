import { describe, expect, it } from 'vitest'
import { redactSecrets, toolError } from '../../../src/image/tool-errors.ts'

const fatal = (text: string): string => `time="2026-01-01T00:00:00Z" level=fatal msg=${JSON.stringify(text)}\n`

describe('toolError', () => {
  it.each([
    ['reading manifest 1 in r/x: manifest unknown: manifest unknown', 'NotFound'],
    ['reading manifest 1 in r/x: unauthorized: authentication required', 'PermissionDenied'],
    ['requested access to the resource is denied', 'PermissionDenied'],
    ['Source image rejected: A signature was required, but no signature exists', 'PermissionDenied'],
    ['writing blob: write /x: no space left on device', 'ResourceExhausted'],
    ['pinging container registry r: Get "https://r/v2/": dial tcp: connect: connection refused', 'Unavailable'],
    ['toomanyrequests: slow down', 'ResourceExhausted'],
    ['', 'Unavailable'],
  ])('makes of %j the code %s', (text, code) => {
    expect(toolError('pull x', fatal(text), [])).toMatchObject({ code })
  })

  it('says the last thing that the tool complained of, on one line', () => {
    const stderr = `time="x" level=warning msg="w"\n${fatal('Error parsing image name "docker://r/x:1": one\ntwo')}`
    expect(toolError('pull r/x:1', stderr, []).message).toBe('pull r/x:1: one; two')
    expect(toolError('pull x', 'plain\nwords\n', []).message).toBe('pull x: plain; words')
  })

  it('never shows what is secret', () => {
    const text = `Get "https://user:canary-1@r/v2/x?token=canary-2#canary-3": Bearer canary-45678901 for canary 6+7`
    const { message } = toolError('pull x', fatal(text), ['canary 6+7'])
    expect(message).not.toContain('canary')
    expect(message).toContain('https://r/v2/x')
    expect(redactSecrets(`a ${encodeURIComponent('s e/c')} b`, ['s e/c'])).toBe('a [redacted] b')
  })
})
