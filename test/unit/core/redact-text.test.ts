import { describe, expect, it } from 'vitest'
import { redactText } from '../../../src/core/redact-text.ts'
import { FINISH_TEST_MS, finishes } from '../../support/finishes.ts'

describe('redactText', () => {
  it.each([
    ['get https://u:canary@reg.example/v2/: refused', 'get https://reg.example/v2/: refused'],
    ['get "https://u:can@ary@reg.example:5000/v2/"', 'get "https://reg.example:5000/v2/"'],
    ['get https://reg.example/v2/x?token=canary&a=b', 'get https://reg.example/v2/x?[redacted]'],
    ['get https://reg.example/v2/x?canary', 'get https://reg.example/v2/x?[redacted]'],
    ['image.image: "u:canary@reg.example/x:1"', 'image.image: "reg.example/x:1"'],
    ['image.image: "reg.example/x?token=canary"', 'image.image: "reg.example/x?[redacted]"'],
    ['Authorization: Basic dTpjYW5hcnk= is wrong', 'Authorization: Basic [redacted] is wrong'],
    ['header bearer canary-canary-1', 'header bearer [redacted]'],
  ])('hides what %j carries', (text, clean) => {
    expect(redactText(text)).toBe(clean)
  })

  it.each([
    `pull reg.example:5000/a/busybox:1@sha256:${'0'.repeat(64)}: not found`,
    'busybox:1@sha256:00',
    'is it there? no: x = 1',
    'read /a/b@c/d: no such file',
    'basic is a word, bearer another',
    '',
  ])('leaves %j as it is', (text) => {
    expect(redactText(text)).toBe(text)
  })

  it.each(['a.', 'a:,', '?', '@', 'a@', 'http://', '=a:', 'bearer '])(
    'takes time in proportion to the text, for many %j',
    (part) => finishes(() => redactText(`${part.repeat(1_000_000)}?`)),
    FINISH_TEST_MS,
  )
})
