import { ledgerLines } from '../../admin/ledger-lines.ts'
import { podSummaries } from '../../admin/pods.ts'
import type { Config } from '../../config/config.ts'
import { errorCode } from '../../core/errors.ts'
import { AdminClient, DaemonDownError } from '../admin-client.ts'
import { examineOffline } from '../../daemon/offline/doctor.ts'
import { readOffline } from '../offline.ts'
import type { Part } from './collect.ts'

/**
 * What the daemon knows: asked for one by one, since one that hangs may answer some of it. Where nobody answers, pods,
 * ledger and the findings of doctor come from the files.
 *
 * @param options.timeoutMs of each part: half of it is the daemon's, and half is for the files.
 */
export function daemonParts(
  config: Config,
  { socketPath, timeoutMs }: { readonly socketPath: string; readonly timeoutMs: number },
): Part[] {
  const get = (name: string, path: string): Part => ({
    name: `daemon/${name}.json`,
    collect: async (signal) => {
      const client = new AdminClient({ socketPath, signal })
      return client.call(path, { timeoutMs: timeoutMs / 2, method: name === 'doctor' ? 'POST' : 'GET' })
    },
  })
  const orOffline = ({ name, collect }: Part, read: Part['collect']): Part => ({
    name,
    collect: async (signal) => {
      try {
        return await collect(signal)
      } catch (error) {
        const isSilent = error instanceof DaemonDownError || errorCode(error) === 'DeadlineExceeded'
        if (!isSilent) throw error
        return read(signal)
      }
    },
  })
  return [
    get('status', '/v1/status'),
    orOffline(get('pods', '/v1/pods'), () => offlinePods(config)),
    get('usage', '/v1/usage'),
    orOffline(get('ledger', '/v1/ledger'), () => offlineLedger(config)),
    get('sandboxers', '/v1/sandboxers'),
    get('log-levels', '/v1/log-levels'),
    orOffline(get('doctor', '/v1/doctor?fix=false'), (signal) => examineOffline(config, { fix: false }, signal)),
    {
      name: 'daemon/metrics.txt',
      collect: (signal) => new AdminClient({ socketPath, signal }).text('/metrics', { timeoutMs }),
    },
  ]
}

async function offlinePods(config: Config): Promise<unknown> {
  const { sandboxes, containers, problems } = await readOffline(config)
  return { fromFiles: true, problems, pods: podSummaries(sandboxes, containers) }
}

async function offlineLedger(config: Config): Promise<unknown> {
  const { sandboxes, containers } = await readOffline(config)
  return ledgerLines([...sandboxes, ...containers].flatMap(({ entries }) => entries))
}
