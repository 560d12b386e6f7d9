import { describe, expect, it } from 'vitest'
import { statusLine } from '../../../src/daemon/service/status-line.ts'
import type { Sandbox } from '../../../src/sandbox/sandbox.ts'

function line(states: readonly string[], owed: number, recovery = { total: 0, done: 0 }): string {
  const all = states.map((state) => ({ status: { state } }) as unknown as Sandbox)
  return statusLine({ recovery, all: () => all, counts: () => ({ owed }) })
}

describe('statusLine', () => {
  it('tells how far the recovery is, and then how the pods are', () => {
    expect(line(['RUNNING'], 0, { total: 50, done: 12 })).toBe('recovering 12 of 50 pods')
    expect(line(['RUNNING', 'RUNNING', 'STOPPED'], 3, { total: 50, done: 50 })).toBe('2 pods run, 3 owe a release')
    expect(line(['RUNNING'], 1)).toBe('1 pod runs, 1 owes a release')
    expect(line([], 0)).toBe('0 pods run')
  })
})
