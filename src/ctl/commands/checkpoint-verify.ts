import { defineCommand } from '../command.ts'
import { shortId } from '../format.ts'
import { styled } from '../style.ts'

export const command = defineCommand({
  usage: '[--json] [ID]...',
  description: `Reads the checkpoint files of all sandboxes and containers, or of those that are named, and tells whether their hash and their seal hold, and whether they say the same as the database. It reads the files itself, whether the daemon runs or not, and changes nothing.

It ends with 1 when one of them does not hold.`,
  options: {},
  operands: [0, 1000],
  async run({ out, operands, config }) {
    const { readOffline } = await import('../offline.ts')
    const { verifyRecords } = await import('../offline-inspection.ts')
    const { config: roots } = await config()
    const records = await readOffline(roots)
    for (const problem of records.problems) out.note(problem)
    const files = await verifyRecords(operands, records, roots)
    const broken = files.filter(({ problem }) => problem !== '')
    if (out.isJson) out.json(files)
    else {
      const rows = files.map(({ id, kind, path, problem }) => {
        return [shortId(id), kind, problem === '' ? styled('green', 'ok') : styled('red', problem), path]
      })
      out.table([{ title: 'ID' }, { title: 'KIND' }, { title: 'VERDICT' }, { title: 'FILE' }], rows)
      out.line(`${files.length} files, ${broken.length} of which do not hold`)
    }
    return broken.length === 0 && records.problems.length === 0 ? 0 : 1
  },
})
