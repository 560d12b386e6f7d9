import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { run, runOk } from '../../src/host/programs/run.ts'
import { bootVm, whyNoVm } from '../support/vm.ts'

const REPO = fileURLToPath(new URL('../..', import.meta.url))
const NO_VM = whyNoVm()
if (NO_VM !== '') process.stderr.write(`${NO_VM}: the service is tried under no systemd\n`)
const BUILD_MS = 120_000
const VM_MS = 900_000

/** The package and what looks at it, in a directory of their own. */
async function prepare(): Promise<string> {
  const data = await mkdtemp(join(tmpdir(), 'sandboxerd-service-'))
  const env = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/root' }
  const args = ['--fast', '--output', data]
  await runOk(join(REPO, 'scripts/package.sh'), args, { timeoutMs: BUILD_MS, env })
  await run('/bin/sh', ['-c', 'mv "$0"/*.deb "$0/sandboxerd.deb"', data], { timeoutMs: 10_000 })
  // The only program that the machine lacks.
  await copyFile('/usr/bin/containers-storage', join(data, 'containers-storage'))
  await copyFile(fileURLToPath(new URL('fixtures/service.mjs', import.meta.url)), join(data, 'service.mjs'))
  return data
}

const PODS = 'one SANDBOX_READY, three SANDBOX_READY, two SANDBOX_READY'

it.skipIf(NO_VM !== '')(
  'systemd starts, restarts, watches and reloads the daemon, and its pods run through all of it',
  async () => {
    const data = await prepare()
    try {
      const install = 'cp containers-storage /usr/bin/; dpkg --force-depends --unpack sandboxerd.deb >/dev/null 2>&1'
      const command = `${install}; /usr/lib/sandboxerd/bin/node service.mjs`
      const { output } = await bootVm(data, command, VM_MS)
      const facts = JSON.parse(/^FACTS (.*)$/m.exec(output)?.[1] ?? '{}') as Record<string, unknown>
      expect(facts, output).toMatchObject({
        verify: '',
        enable: { failed: [], active: 'active\nactive', status: '0 pods run' },
        socket: { mode: '660', directory: '711', state: '711', held: true },
        pods: PODS,
        process: {
          mounts: "the node's",
          confined: ['NoNewPrivs:\t0', 'Seccomp:\t0'],
          oom: ['-999', '-998'],
          files: '1048576',
          monitorCgroup: '0::/system.slice/sandboxerd.service',
          leaks: false,
        },
        restart: { failed: [], isNew: true, same: true, pods: PODS, several: true },
        kill: { failed: [], same: true, pods: PODS },
        blocked: { watchdog: true, isNew: true, same: true, pods: PODS },
        'no network': { restarts: '2', ready: [true, false] },
        reload: { said: ['', '', ''], same: true, active: 'active' },
        activation: { same: true, active: 'inactive\ninactive', pods: PODS, activeThen: 'active' },
        end: { pauses: '', leftOvers: '' },
      })
    } finally {
      // Ours, and nothing is mounted in it.
      await rm(data, { recursive: true })
    }
  },
  VM_MS + BUILD_MS + 120_000,
)
