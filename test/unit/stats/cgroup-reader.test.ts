import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Machine, readCgroup } from '../../../src/stats/cgroup-reader.ts'
import type { CgroupReading } from '../../../src/stats/cgroup-reading.ts'
import { makeMachine, PATH } from './trees.ts'

const MIB = 1024 * 1024

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'sandboxerd-cgroups-'))
})
afterEach(() => rmSync(root, { recursive: true }))

function read(machine: Machine, detail = false): CgroupReading {
  const found = readCgroup(machine, { cgroupPath: PATH, pid: 11, detail })
  if (found === null) throw new Error('nothing was read')
  return found
}

/** The same container, as each kind of hierarchy shows it. */
describe.each(['v1', 'hybrid', 'v2'] as const)('readCgroup on %s', (kind) => {
  it('reads what containers use', () => {
    const { cpu, memory, processCount, detail } = read(makeMachine(root, kind))
    expect(cpu?.usageNs).toBe(1.5e9)
    expect(memory).toMatchObject({
      usageBytes: 16 * MIB,
      workingSetBytes: 13 * MIB,
      limitBytes: 64 * MIB,
      rssBytes: 4 * MIB,
      pageFaults: 1234,
      majorPageFaults: 12,
      swap: { usageBytes: MIB / 2, limitBytes: MIB },
    })
    expect(processCount).toBe(3)
    expect(detail).toBe(null)
  })

  it('reads what metrics tell', () => {
    const { detail } = read(makeMachine(root, kind), true)
    const isV2 = kind === 'v2'
    expect(detail?.cpu).toEqual({
      userNs: 1e9,
      systemNs: 0.5e9,
      periods: 10,
      throttledPeriods: 4,
      throttledNs: 0.25e9,
    })
    expect(detail?.memory).toEqual({
      cacheBytes: 8 * MIB,
      kernelBytes: MIB,
      mappedFileBytes: 2 * MIB,
      activeFileBytes: 5 * MIB,
      inactiveFileBytes: 3 * MIB,
      maxUsageBytes: 20 * MIB,
      failures: 7,
      faults: { own: isV2 ? 1234 : 200, all: 1234 },
      majorFaults: { own: isV2 ? 12 : 5, all: 12 },
      oomKills: 1,
    })
    expect(detail?.io[0]).toEqual({
      major: '8',
      minor: '0',
      device: '/dev/sda',
      readBytes: 4096,
      writeBytes: 8192,
      reads: 1,
      writes: 2,
    })
    // One device is gone, another line is empty.
    expect(detail?.io.map(({ device }) => device)).toEqual(isV2 ? ['/dev/sda', '253:9'] : ['/dev/sda'])
    expect(detail?.hugePages).toEqual([{ pageSize: '2MB', usageBytes: 2 * MIB, maxUsageBytes: isV2 ? null : 4 * MIB }])
    expect(detail?.processes).toEqual({
      threads: 9,
      threadsMax: isV2 ? 100 : null,
      fileDescriptors: 2,
      sockets: 1,
      openFilesLimit: '1024',
    })
  })

  it('knows no cgroup that is not there', () => {
    expect(readCgroup(makeMachine(root, kind), { cgroupPath: '/gone', pid: null, detail: true })).toBe(null)
  })
})

describe('pressure', () => {
  const somePressure = { totalNs: 1_000_000, avg10: 1.5, avg60: 0.75, avg300: 0.1 }

  it('is in nanoseconds, for all three resources on v2', () => {
    const { cpu, memory, io } = read(makeMachine(root, 'v2'))
    expect(cpu?.psi?.some).toEqual(somePressure)
    expect(memory?.psi?.full?.totalNs).toBe(500_000)
    expect(io?.psi.some?.totalNs).toBe(3_000_000)
  })

  it('comes from the v2 hierarchy of a hybrid machine, where the processes are in it', () => {
    const machine = makeMachine(root, 'hybrid')
    expect(read(machine).cpu?.psi?.some).toEqual(somePressure)
    writeFileSync(join(root, 'unified', PATH, 'cgroup.events'), 'populated 0\nfrozen 0\n')
    expect(read(machine).cpu?.psi).toBe(null)
  })

  it('is not there on v1', () => {
    const { cpu, io } = read(makeMachine(root, 'v1'))
    expect([cpu?.psi, io]).toEqual([null, null])
  })
})

describe('limits', () => {
  it('are none where the kernel says max', () => {
    const machine = makeMachine(root, 'v2')
    writeFileSync(join(root, PATH, 'memory.max'), 'max\n')
    writeFileSync(join(root, PATH, 'memory.swap.max'), 'max\n')
    const { memory } = read(machine)
    expect([memory?.limitBytes, memory?.swap?.limitBytes]).toEqual([null, null])
  })

  it('are none where v1 has the largest number of pages', () => {
    const machine = makeMachine(root, 'v1')
    writeFileSync(join(root, 'memory', PATH, 'memory.limit_in_bytes'), '9223372036854771712\n')
    expect(read(machine).memory?.limitBytes).toBe(null)
  })

  it('leave no working set below zero', () => {
    const machine = makeMachine(root, 'v2')
    writeFileSync(join(root, PATH, 'memory.current'), '4096\n')
    expect(read(machine).memory?.workingSetBytes).toBe(0)
  })
})
