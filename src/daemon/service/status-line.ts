import type { SandboxManager } from '../../sandbox/sandbox-manager.ts'

/** How the pods of a node are, in a few words for `systemctl status`. */
export function statusLine(sandboxes: Pick<SandboxManager, 'recovery' | 'all' | 'counts'>): string {
  const { total, done } = sandboxes.recovery
  if (done < total) return `recovering ${done} of ${pods(total)}`
  const running = sandboxes.all().filter(({ status }) => status.state === 'RUNNING').length
  const owed = Number(sandboxes.counts()['owed'])
  return [`${pods(running)} ${running === 1 ? 'runs' : 'run'}`, ...(owed === 0 ? [] : [owes(owed)])].join(', ')
}

function pods(count: number): string {
  return count === 1 ? '1 pod' : `${count} pods`
}

function owes(count: number): string {
  return count === 1 ? '1 owes a release' : `${count} owe a release`
}
