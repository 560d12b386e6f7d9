import { it } from 'vitest'
import { ownDaemons } from '../support/daemon.ts'
const start = ownDaemons()
it('x', async () => {
  const t = performance.now()
  const log = (w: string) => console.log(Math.round(performance.now() - t), w)
  const daemon = await start({ failpoints: `run.startController.before=1*error(no luck)` })
  log('started')
  await daemon.client.run(daemon.pod()).catch(() => log('failed'))
  await daemon.expectNothingLeft()
  log('nothing left')
  const id = await daemon.run(daemon.pod())
  log('run')
  void id
  await daemon.removeListed()
  log('removed')
})
