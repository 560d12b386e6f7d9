import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runOk } from '../../src/host/run.ts'
import type { TestDaemon } from './daemon.ts'
import { onPath } from './on-path.ts'

/** What crictl says of a daemon under test. */
export interface Crictl {
  (...args: readonly string[]): Promise<string>
  json(...args: readonly string[]): Promise<Record<string, unknown>>
}

/** Whether there is a crictl; a test that is skipped for want of it says nothing by itself, so this says it. */
export function hasCrictl(): boolean {
  if (onPath('crictl') !== undefined) return true
  process.emitWarning('crictl is not on PATH: what it says of the daemon is not tested')
  return false
}

export function crictlOf(daemon: () => TestDaemon): Crictl {
  const text = async (...args: readonly string[]): Promise<string> => {
    const config = join(daemon().dir, 'crictl.yaml')
    await writeFile(config, `runtime-endpoint: unix://${join(daemon().dir, 'cri.sock')}\ntimeout: 30\n`)
    const { stdout } = await runOk(onPath('crictl') ?? 'crictl', ['--config', config, ...args], { timeoutMs: 40_000 })
    return stdout.trim()
  }
  const json = async (...args: readonly string[]): Promise<Record<string, unknown>> =>
    JSON.parse(await text(...args)) as Record<string, unknown>
  return Object.assign(text, { json })
}
