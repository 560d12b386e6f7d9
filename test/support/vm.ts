import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run } from '../../src/host/programs/run.ts'
import { onPath } from './on-path.ts'

// A machine of its own, with systemd and cgroup v2: for what no container can show. Its programs run some ten times slower
// than outside: one boot checks many things, prints what it found, and the test looks at that.

const SCRIPT = fileURLToPath(new URL('../../../shared/tools/vm.sh', import.meta.url))
const VM = process.env['SANDBOXERD_TEST_VM'] ?? '/var/cache/sandboxerd-vm'
const TOOLS = ['qemu-system-x86_64', 'mkfs.ext4', 'debugfs']
/** What is taken outside of the machine's time: its disks are made and looked at. */
const AROUND_MS = 120_000

/** Why there can be no such machine here; `''` when there can be one. Who skips a test for it says so aloud. */
export function whyNoVm(): string {
  if (!existsSync(SCRIPT)) return `no virtual machine: there is no ${SCRIPT}`
  const missing = TOOLS.find((tool) => onPath(tool) === undefined)
  if (missing !== undefined) return `no virtual machine: ${missing} is not installed`
  if (Date.now() / 1000 > Number(process.env['SANDBOXERD_TEST_VM_UNTIL'] ?? Infinity)) {
    return 'no time for a virtual machine: SANDBOXERD_TEST_VM_UNTIL has passed'
  }
  if (existsSync(join(VM, 'root.img'))) return ''
  return `no virtual machine: ${VM} has none (scripts/ensure-vm.sh ${VM}, or SANDBOXERD_TEST_VM)`
}

/**
 * Boots the machine, runs a command as root, and powers off. What it does to its disk is forgotten.
 * @param data a directory that the machine sees (a copy) as /data, where the command is run.
 * @param timeoutMs for the boot and the command.
 * @returns what was printed, also by a command that failed or took too long: what is missing there shows it.
 */
export async function bootVm(
  data: string,
  command: string,
  timeoutMs: number,
): Promise<{ readonly exitCode: number | undefined; readonly output: string }> {
  const args = ['-n', '5', 'bash', SCRIPT, 'run', VM, '-d', data, '-t', String(Math.ceil(timeoutMs / 1000)), command]
  const env = { PATH: process.env['PATH'] ?? '' }
  const { stdout, stderr, exitCode } = await run('/usr/bin/nice', args, { timeoutMs: timeoutMs + AROUND_MS, env })
  return { exitCode, output: `${stdout}${stderr}` }
}
