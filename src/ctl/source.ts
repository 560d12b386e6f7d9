import type { LoadedConfig } from '../config/load.ts'
import { CodedError, errorCode, errorMessage } from '../core/errors.ts'
import { type AdminClient, DaemonDownError } from './admin-client.ts'
import type { Call, OptionSpec } from './command.ts'
import type { OfflineRecords } from './offline.ts'

/** For commands that can do without the daemon. */
export const OFFLINE_OPTION = {
  offline: {
    type: 'boolean',
    description: 'read database and checkpoints even if the daemon runs, as for one that does not answer',
  },
} as const satisfies Record<string, OptionSpec>

/**
 * Asks the daemon, or reads what is on record where there is none (or where that is asked for), and says so.
 * @throws what the daemon or the files have against it.
 */
export async function daemonOrFiles<T>(
  call: Pick<Call, 'admin' | 'config' | 'out'> & { readonly options: { readonly offline?: boolean } },
  ask: (admin: AdminClient) => Promise<T>,
  read: (records: OfflineRecords, loaded: LoadedConfig) => Promise<T> | T,
): Promise<T> {
  if (!call.options.offline) {
    try {
      return await ask(await call.admin())
    } catch (error) {
      if (errorCode(error) === 'DeadlineExceeded') {
        throw new CodedError('DeadlineExceeded', `${errorMessage(error)} (--offline reads what is on record)`)
      }
      if (!(error instanceof DaemonDownError)) throw error
      call.out.note('sandboxerd is not running: this is what is on record')
    }
  }
  const loaded = await call.config()
  const { readOffline } = await import('./offline.ts')
  const records = await readOffline(loaded.config)
  for (const problem of records.problems) call.out.note(problem)
  return read(records, loaded)
}
