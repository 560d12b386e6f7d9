import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { CniNetworks } from '../../../src/cni/cni-networks.ts'
import { restorePodCidrs, savePodCidrs } from '../../../src/daemon/pod-cidrs.ts'

const lines: string[] = []
const logger = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) })
const networks = new CniNetworks(
  { confDir: '/nonexistent', binDirs: [], timeoutMs: 1000, reloadIntervalMs: 1000, maxConcurrent: 1 },
  { logger },
)

describe('pod CIDRs', () => {
  it('are what was saved', async () => {
    const rows: Record<string, string> = {}
    const commit = async (changes: readonly unknown[]): Promise<void> => {
      for (const { key, value } of changes as { key: string; value: string }[]) rows[key] = value
    }
    await savePodCidrs(['10.1.0.0/24'], { store: { commit }, logger })
    const told: (readonly string[])[] = []
    restorePodCidrs({ node: rows }, { networks: { setPodCidrs: (cidrs) => void told.push(cidrs) }, logger })
    expect(told).toEqual([['10.1.0.0/24']])
    expect(lines).toEqual([])
  })

  it.each(['', '["10.1.0.0/2', 'null', '7', '{}', '["x"]', '[7]'])(
    'keep nobody from starting when they are %j',
    (text) => {
      lines.length = 0
      restorePodCidrs({ node: { pod_cidrs: text } }, { networks, logger })
      expect(lines.join('')).toContain('the kubelet tells them again')
    },
  )
})
