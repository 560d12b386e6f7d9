import type { Container } from '../container/container.ts'
import { isNameless } from '../sandbox/load.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import type { Check, Suspicion } from './doctor.ts'
import { short } from './records.ts'

/** What was found by a checkpoint, and has no row. */
export interface Unrecorded {
  readonly sandboxes: readonly Sandbox[]
  readonly containers: readonly Container[]
}

/** Puts on record again what only a checkpoint tells of, as the next daemon does. Containers refer to their sandboxes. */
export function rowsMissing({ sandboxes, containers }: Unrecorded): Check {
  return {
    look: async () => [
      ...sandboxes.filter(({ metadata }) => !isNameless(metadata)).map((sandbox) => suspect('sandbox', sandbox)),
      ...containers
        .filter(({ metadata }) => metadata.sandboxId !== '')
        .map((container) => suspect('container', container)),
    ],
  }
}

function suspect(what: string, owner: Sandbox | Container): Suspicion {
  const { id } = owner
  return {
    kind: 'row-missing',
    ownerId: id,
    subject: `row of ${id}`,
    message: `${what} ${short(id)} has a checkpoint and no row: --fix puts it on record again`,
    isStill: async () => true,
    repair: () => owner.insert(),
  }
}

/** Checkpoints that came while the daemon runs, of sandboxes and containers that it does not know. */
export function checkpointsUnread(
  paths: () => Promise<readonly { readonly id: string; readonly path: string }[]>,
): Check {
  const cannot = 'restart sandboxerd, which takes it up'
  return {
    look: async () =>
      (await paths()).map(({ id, path }) => ({
        kind: 'row-missing',
        ownerId: id,
        subject: path,
        message: `checkpoint of ${short(id)}, which is not on record: ${cannot}`,
        isStill: async () => (await paths()).some((one) => one.id === id),
        repair: cannot,
      })),
  }
}
