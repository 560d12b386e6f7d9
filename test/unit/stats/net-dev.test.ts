import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseNetDev, readNetwork } from '../../../src/stats/net-dev.ts'
import { SmallFiles } from '../../../src/stats/small-files.ts'

const TEXT = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0
  eth0:1000000   100    1    2    0     0          0         0     2000     20    3    4    0     0       0          0
 a:b:     5       6    0    0    0     0          0         0        7       8    0    0    0     0       0          0
`

describe('parseNetDev', () => {
  it('reads all interfaces but lo', () => {
    expect(parseNetDev(TEXT).interfaces).toEqual([
      {
        name: 'eth0',
        rxBytes: 1_000_000,
        rxPackets: 100,
        rxErrors: 1,
        rxDropped: 2,
        txBytes: 2000,
        txPackets: 20,
        txErrors: 3,
        txDropped: 4,
      },
      expect.objectContaining({ name: 'a:b', rxBytes: 5, txBytes: 7, txPackets: 8 }) as unknown,
    ])
  })
})

describe('readNetwork', () => {
  it('takes no counters through a process that is in another namespace', () => {
    const proc = mkdtempSync(join(tmpdir(), 'sandboxerd-proc-'))
    try {
      mkdirSync(join(proc, '7/net'), { recursive: true })
      mkdirSync(join(proc, '7/ns'))
      writeFileSync(join(proc, '7/net/dev'), TEXT)
      writeFileSync(join(proc, '7/ns/net'), '')
      writeFileSync(join(proc, 'other'), '')
      const machine = { files: new SmallFiles(), proc }
      const its = join(proc, '7/ns/net')
      expect(readNetwork(machine, { pid: 7, netnsPath: its })?.interfaces).toHaveLength(2)
      expect(readNetwork(machine, { pid: 7, netnsPath: join(proc, 'other') })).toBe(null)
      expect(readNetwork(machine, { pid: 8, netnsPath: its })).toBe(null)
      expect(readNetwork(machine, { pid: 7, netnsPath: join(proc, 'gone') })).toBe(null)
    } finally {
      rmSync(proc, { recursive: true })
    }
  })
})
