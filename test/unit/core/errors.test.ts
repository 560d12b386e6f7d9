import { describe, expect, it } from 'vitest'
import { CodedError, errorCode } from '../../../src/core/errors.ts'

describe('errorCode', () => {
  it.each([
    [new CodedError('NotFound', 'no such pod'), 'NotFound'],
    [Object.assign(new Error('write /x: no space left'), { code: 'ENOSPC', errno: -28 }), 'ResourceExhausted'],
    [Object.assign(new Error('write /x: quota'), { code: 'EDQUOT' }), 'ResourceExhausted'],
    [Object.assign(new Error('open /x'), { code: 'ENOENT' }), 'Internal'],
    ['text', 'Internal'],
  ])('of %s is %s', (error, code) => {
    expect(errorCode(error)).toBe(code)
  })
})
