import { errorMessage } from '../core/errors.ts'
import type { Observer } from '../core/observer.ts'
import { type Loaded, WRITTEN_BY_KEY } from '../store/rows.ts'
import { Store } from '../store/store.ts'
import type { Logger } from '../telemetry/logger.ts'

/**
 * Opens the database, says what had to be done for that, and leaves our version in it: an older sandboxerd that cannot
 * open it any more tells people to install that one.
 */
export async function openStore(
  path: string,
  deps: { readonly version: string; readonly observer: Observer; readonly logger: Logger },
): Promise<{ readonly store: Store; readonly loaded: Loaded }> {
  const { version, observer, logger } = deps
  const opened = await Store.open(path, { observer })
  const { setAside, migrated, node } = opened.loaded
  if (setAside) logger.error(setAside, 'database was damaged: set aside, rebuilding from checkpoints')
  if (migrated) logger.info(migrated, 'database was brought to the schema of this version')
  if (node[WRITTEN_BY_KEY] !== version) {
    opened.store.commit([{ op: 'putNode', key: WRITTEN_BY_KEY, value: version }]).catch((error: unknown) => {
      logger.warn({ error: errorMessage(error) }, 'the version cannot be saved')
    })
  }
  return opened
}
