import type { DaemonStatus } from '../../admin/api.ts'
import type { Config } from '../../config/config.ts'
import { errorCode } from '../../core/errors.ts'
import type { Finding } from '../../doctor/doctor.ts'
import { type AdminClient, DaemonDownError } from '../admin-client.ts'
import { defineCommand } from '../command.ts'
import { shortId } from '../format.ts'
import { type Style, styled } from '../style.ts'

/** A repair may kill, unmount and run plugins, and there may be many. The daemon gives up a little earlier, and says why. */
const TIMEOUT_MS = 610_000
const ANSWER_MS = 10_000

const STYLES: Readonly<Record<Finding['outcome'], Style>> = { found: 'yellow', fixed: 'green', failed: 'red' }

export const command = defineCommand({
  usage: '[--fix] [--json]',
  description: `Looks for what is on this machine and not on record, and the other way round: processes, mounts, network namespaces, addresses, cgroups, files and directories that nobody has; rows without process; rows and checkpoints that do not hold; a damaged database. What cannot be proven to be of this sandboxerd is left alone, and not told of.

The daemon looks itself, since it knows what is under way. Without one, sandboxerctl looks, and keeps the daemon from starting meanwhile.

It ends with 1 when something is left to be repaired.`,
  options: { fix: { type: 'boolean', description: 'put right what is found' } },
  operands: [0, 0],
  async run({ options, out, signal, config, admin }) {
    const fix = options.fix ?? false
    const findings = await examine(fix, {
      admin,
      config: async () => (await config()).config,
      note: (text) => out.note(text),
      signal,
    })
    if (out.isJson) out.json(findings)
    else {
      const rows = findings.map(({ outcome, kind, ownerId, subject, message, problem }) => [
        styled(STYLES[outcome], outcome),
        kind,
        ownerId === null ? '-' : shortId(ownerId),
        subject,
        problem === null || message.includes(problem) ? message : `${message} (${problem})`,
      ])
      if (rows.length > 0) {
        const titles = ['OUTCOME', 'KIND', 'ID', 'SUBJECT', 'WHAT IS WRONG']
        out.table(
          titles.map((title) => ({ title })),
          rows,
        )
      }
      out.line(summary(findings, fix))
    }
    return findings.every(({ outcome }) => outcome === 'fixed') ? 0 : 1
  },
})

interface Sources {
  readonly admin: () => Promise<AdminClient>
  readonly config: () => Promise<Config>
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

async function examine(fix: boolean, { admin, config, note, signal }: Sources): Promise<Finding[]> {
  const client = await admin()
  const why = await whyNotAsked(client, note)
  if (why === null) {
    return client.call<Finding[]>(`/v1/doctor?fix=${fix}`, { method: 'POST', timeoutMs: TIMEOUT_MS })
  }
  note(`${why}: looking without it`)
  const { examineOffline } = await import('../../daemon/offline/doctor.ts')
  const onBusy = (): void => note('a daemon has the node all the same: nothing is repaired')
  return examineOffline(await config(), { fix, onBusy }, signal)
}

/** Why the daemon cannot look itself; null when it can. One that hangs is found out at once, and not after a repair. */
async function whyNotAsked(client: AdminClient, note: Sources['note']): Promise<string | null> {
  try {
    const { recovered } = await client.call<DaemonStatus>('/v1/status', { timeoutMs: ANSWER_MS })
    if (!recovered) note('sandboxerd has not looked at everything yet since it was started: it looks when it has')
    return null
  } catch (error) {
    if (error instanceof DaemonDownError) return 'sandboxerd is not running'
    if (errorCode(error) === 'DeadlineExceeded') return 'sandboxerd does not answer'
    throw error
  }
}

function summary(findings: readonly Finding[], fix: boolean): string {
  if (findings.length === 0) return 'nothing is wrong'
  if (!fix) return `${findings.length} found; sandboxerctl doctor --fix puts right what can be`
  const fixed = findings.filter(({ outcome }) => outcome === 'fixed').length
  return `${fixed} fixed, ${findings.length - fixed} left`
}
