import type { Reload } from '../../admin/api.ts'
import { defineCommand } from '../command.ts'

/** What is reloaded is looked at first. */
const RELOAD_MS = 60_000

export const command = defineCommand({
  usage: '[--json]',
  description: `Has the daemon read its configuration again, as SIGHUP and "systemctl reload sandboxerd" do, and tells what has changed, and what differs now but needs a restart. A configuration that cannot be used changes nothing.`,
  options: {},
  operands: [0, 0],
  async run({ out, admin }) {
    const reload = await (await admin()).call<Reload>('/v1/reload', { method: 'POST', timeoutMs: RELOAD_MS })
    if (out.isJson) out.json(reload)
    else {
      for (const key of reload.changed) out.line(`changed        ${key}`)
      for (const key of reload.needRestart) out.line(`needs restart  ${key}`)
      if (reload.changed.length + reload.needRestart.length === 0) out.line('nothing has changed')
    }
    return 0
  },
})
