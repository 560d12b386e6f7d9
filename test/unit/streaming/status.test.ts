import { describe, expect, it } from 'vitest'
import { CodedError } from '../../../src/core/errors.ts'
import { encodeStatus } from '../../../src/streaming/command/status.ts'

const json = (outcome: Parameters<typeof encodeStatus>[1]): unknown => JSON.parse(String(encodeStatus('json', outcome)))

describe('the status of a remote command', () => {
  it('is what clients of Kubernetes read an exit code from', () => {
    expect(json({ exitCode: 0 })).toEqual({ metadata: {}, status: 'Success' })
    expect(json({ exitCode: 137 })).toEqual({
      metadata: {},
      status: 'Failure',
      message: 'command terminated with non-zero exit code: 137',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '137' }] },
    })
  })

  it('says why there is no exit code', () => {
    const error = new CodedError('FailedPrecondition', 'run a command in container x: it is not running')
    expect(json({ error })).toEqual({
      metadata: {},
      status: 'Failure',
      message: `Internal error occurred: ${error.message}`,
      reason: 'InternalError',
      code: 500,
    })
  })

  it('is text before v4, and nothing for success', () => {
    expect(String(encodeStatus('text', { exitCode: 0 }))).toBe('')
    expect(String(encodeStatus('text', { exitCode: 3 }))).toBe('command terminated with non-zero exit code: 3')
    expect(String(encodeStatus('text', { error: new Error('x') }))).toBe('Internal error occurred: x')
  })

  it('is bounded', () => {
    expect(encodeStatus('json', { error: new Error('x'.repeat(1 << 20)) }).length).toBeLessThan(10_000)
  })
})
