import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Forgotten, Inspection, LedgerLine } from '../../../src/admin/api.ts'
import { AdminClient } from '../../../src/ctl/admin-client.ts'
import { bridgeNetwork, ownDaemons } from '../../support/daemon.ts'
import { ctl, ctlJson } from '../../support/sandboxerctl.ts'

const start = ownDaemons()

/** A plugin that adds nothing to what those before it have made, and which is uninstalled while pods run. */
const PLUGIN = `#!${process.execPath}
const config = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))
const answers = { VERSION: { cniVersion: '1.0.0', supportedVersions: ['1.0.0'] }, ADD: config.prevResult }
console.log(JSON.stringify(answers[process.env.CNI_COMMAND] ?? {}))
`

it('tells why a release is owed, and gives it up when a person says so', async () => {
  const daemon = await start({ networks: () => ({}) })
  const plugin = join(daemon.dir, 'bin', 'uninstalled')
  await writeFile(plugin, PLUGIN, { mode: 0o755 })
  await daemon.writeNetwork('10-test.conflist', bridgeNetwork(daemon, { more: [{ type: 'uninstalled' }] }))
  expect(await ctl(daemon, 'reload')).toMatchObject({ exitCode: 0 })
  const [stopped, removed] = [await daemon.run(daemon.pod(), 'crun'), await daemon.run(daemon.pod(), 'crun')]
  await rm(plugin)
  await daemon.client.stop(stopped)
  await daemon.client.remove(removed)

  const owed = await ctlJson<readonly LedgerLine[]>(daemon, 'ledger', '--owed')
  expect(new Map(owed.map(({ ownerId, kind }) => [ownerId, kind]))).toEqual(
    new Map([stopped, removed].map((id) => [id, 'cni'])),
  )
  const why = expect.stringContaining('plugin uninstalled: no such program') as string
  expect(owed.map(({ problem }) => problem)).toEqual([why, why])
  expect((await ctlJson<Inspection>(daemon, 'inspect', stopped)).problems).toEqual([why])
  const seq = String(owed[0]?.seq)

  expect(await ctl(daemon, 'ledger', 'forget', stopped.slice(0, 12), seq)).toMatchObject({ exitCode: 1, stdout: why })
  expect(await ctlJson(daemon, 'ledger', '--owed')).toHaveLength(2)

  // sandboxerctl does not even ask for this.
  const client = new AdminClient({
    socketPath: join(daemon.dir, 'state', 'admin.sock'),
    signal: AbortSignal.timeout(60_000),
  })
  const held = (await ctlJson<readonly LedgerLine[]>(daemon, 'ledger', stopped)).filter(({ state }) => state === 'held')
  expect(held.length).toBeGreaterThan(0)
  for (const { seq: heldSeq } of held) {
    await expect(client.call(`/v1/ledger/${stopped}/${heldSeq}`, { method: 'DELETE' })).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: expect.stringContaining('its release is not owed: it is held') as string,
    })
  }
  expect(await ctlJson(daemon, 'ledger', stopped)).toHaveLength(held.length + 1)

  const forgotten = await ctlJson<Forgotten>(daemon, 'ledger', 'forget', '--yes', stopped, seq)
  expect(forgotten.entry).toMatchObject({ ownerId: stopped, kind: 'cni' })
  // Its namespace was kept for the DEL.
  expect(forgotten.left?.map(({ kind, state }) => `${kind} ${state}`)).toEqual(['directory held', 'directory held'])
  expect(await ctlJson(daemon, 'ledger', 'forget', '--yes', removed, seq)).toMatchObject({ left: [] })
  expect(daemon.logs()).toMatch(/"kind":"cni","state":"releasing".*release given up/)

  await daemon.kill9()
  await daemon.launch()
  await daemon.recovered()
  expect(await ctlJson(daemon, 'ledger', '--owed')).toEqual([])
  await daemon.client.remove(stopped)
  expect(await ctlJson(daemon, 'ledger')).toEqual([])
})
