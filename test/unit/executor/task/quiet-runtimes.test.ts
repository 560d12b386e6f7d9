import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { QuietRuntimes } from '../../../../src/executor/task/quiet-runtimes.ts'
import { runcOptionsIn } from '../../../../src/executor/task/task-messages.ts'
import { loadShimApi } from '../../../../src/grpc/load.ts'

const api = loadShimApi()
const typeUrl = 'containerd.runc.v1.Options'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sandboxerd-quiet's-"))
})
afterEach(() => rmSync(directory, { recursive: true }))

function optionsFor(runtime: string) {
  const given = { binary_name: runtime, root: '/run/root', systemd_cgroup: true }
  return { typeUrl, value: api.containerd.runc.v1.Options.serialize(given).toString('base64') }
}

describe('QuietRuntimes', () => {
  it('runs the runtime with its arguments and streams, but for devices', async () => {
    const runtime = join(directory, 'crun')
    const streams = '$(stat -Lc %F /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2)'
    writeFileSync(runtime, `#!/bin/sh\nstreams="${streams}"; echo "$streams" >"$1"; echo "$2"; exit 5\n`)
    chmodSync(runtime, 0o700)
    const quiet = new QuietRuntimes({ directory: join(directory, 'made') }, { api })
    const found = runcOptionsIn(await quiet.quiet(optionsFor(runtime)), api)
    expect(found).toMatchObject({ root: '/run/root', systemd_cgroup: true })
    const script = found?.binary_name ?? ''
    expect(basename(script)).toBe('crun')

    const told = join(directory, 'told')
    const run = (stdio: ('ignore' | 'pipe')[]): string | null => {
      try {
        return execFileSync(script, [told, "an 'argument'"], { stdio, encoding: 'utf8' })
      } catch (error) {
        expect(error).toMatchObject({ status: 5 })
        return (error as { stdout: string | null }).stdout
      }
    }
    expect(run(['ignore', 'pipe', 'ignore'])).toBe("an 'argument'\n")
    expect(execFileSync('cat', [told], { encoding: 'utf8' })).not.toContain('device')
    run(['ignore', 'ignore', 'ignore'])
    expect(execFileSync('cat', [told], { encoding: 'utf8' })).toBe('fifo\n'.repeat(3))
  })

  it('makes one for each runtime, and leaves what is not for a shim of runc as it is', async () => {
    const quiet = new QuietRuntimes({ directory }, { api })
    const [one, same] = await Promise.all([quiet.quiet(optionsFor('/a/crun')), quiet.quiet(optionsFor('/a/crun'))])
    expect(one).toEqual(same)
    expect(await new QuietRuntimes({ directory }, { api }).quiet(optionsFor('/a/crun'))).toEqual(one)
    expect(await quiet.quiet(optionsFor('/b/crun'))).not.toEqual(one)
    expect(readdirSync(directory)).toHaveLength(2)
    for (const options of [null, { typeUrl: 'runtimeoptions.v1.Options', value: '' }, optionsFor('')]) {
      expect(await quiet.quiet(options)).toEqual(options)
    }
  })
})
