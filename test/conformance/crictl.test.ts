import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { crictlOf, hasCrictl } from '../support/crictl.ts'
import { sharedDaemon } from '../support/daemon.ts'

describe.skipIf(!hasCrictl())('crictl', () => {
  const daemon = sharedDaemon()
  const crictl = crictlOf(daemon)

  const runp = async (name: string, labels: Record<string, string>, ...options: string[]): Promise<string> => {
    const path = join(daemon().dir, `${name}.json`)
    const metadata = { name, namespace: 'crictl', uid: `uid-${name}`, attempt: 0 }
    await writeFile(path, JSON.stringify({ metadata, labels, annotations: { note: 'ü "quoted"' }, linux: {} }))
    return daemon().track(await crictl('runp', ...options, path))
  }

  it('shows the version and the state of the node', async () => {
    expect(await crictl('version')).toMatch(/RuntimeName:\s+sandboxerd[^]*RuntimeApiVersion:\s+v1/)
    const { status, runtimeHandlers } = await crictl.json('info')
    expect(status).toMatchObject({
      conditions: [
        { type: 'RuntimeReady', status: true },
        { type: 'NetworkReady', status: true },
      ],
    })
    expect(runtimeHandlers).toEqual(expect.arrayContaining([expect.objectContaining({ name: 'crun-pinned' })]))
  })

  it('runs, finds, inspects, stops and removes pods', async () => {
    const first = await runp('first', { app: 'web', tier: 'front' })
    const second = await runp('second', { app: 'web' }, '--runtime', 'crun-pinned')
    const find = async (...filter: string[]): Promise<string[]> =>
      (await crictl('pods', '--quiet', ...filter)).split('\n').filter((line) => line !== '')

    expect(await find()).toEqual([second, first])
    expect(await find('--id', first.slice(0, 12))).toEqual([first])
    expect(await find('--name', 'seco')).toEqual([second])
    expect(await find('--namespace', 'crictl')).toHaveLength(2)
    expect(await find('--label', 'app=web', '--label', 'tier=front')).toEqual([first])
    expect(await find('--state', 'ready', '--latest')).toEqual([second])
    expect(await find('--state', 'notready')).toEqual([])

    const { status, info } = (await crictl.json('inspectp', first)) as {
      status: { state: string; network: { ip: string }; annotations: object }
      info: { pid: number; checkpoint: { valid: boolean }; runtimeSpec: { process: { args: string[] } } }
    }
    expect(status).toMatchObject({ state: 'SANDBOX_READY', annotations: { note: 'ü "quoted"' } })
    expect(status.network.ip).toMatch(/^10\./)
    expect(info.pid).toBeGreaterThan(1)
    expect(info.checkpoint.valid).toBe(true)
    expect(info.runtimeSpec.process.args).toEqual(['/catatonit', '-P'])

    await crictl('stopp', first, second)
    expect(await find('--state', 'notready')).toEqual([second, first])
    await crictl('rmp', first, second)
    expect(await find()).toEqual([])
  })
})
