import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { bridgeNetwork, ownDaemons } from '../support/daemon.ts'

const start = ownDaemons()

/** host-local, but its ADD takes two seconds, and says when it has begun. */
const SLOW = `#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then touch "$(dirname "$0")/begun"; sleep 2; fi
exec /usr/lib/cni/host-local
`

it('kill -9 while a plugin is under way leaves nothing, although the plugin goes on', async () => {
  const daemon = await start({
    networks: (own) => {
      const ranges = [[{ subnet: '10.64.0.0/16' }]]
      const ipam = { type: 'slow-local', dataDir: join(own.dir, 'ipam'), ranges }
      return { '10-slow.conflist': bridgeNetwork(own, { bridge: { ipam } }) }
    },
  })
  await writeFile(join(daemon.dir, 'bin', 'slow-local'), SLOW)
  await chmod(join(daemon.dir, 'bin', 'slow-local'), 0o755)
  const running = daemon.client.run(daemon.pod())
  running.catch(() => undefined)
  await expect
    .poll(
      () =>
        writeFile(join(daemon.dir, 'bin', 'begun'), '', { flag: 'r+' }).then(
          () => true,
          () => false,
        ),
      { timeout: 10_000 },
    )
    .toBe(true)
  await daemon.kill9()
  await expect(running).rejects.toThrow()
  await daemon.restart()
  expect(await daemon.client.list()).toEqual([])
  // The plugin has ended by then.
  await sleep(2500)
})
