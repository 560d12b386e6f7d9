import type { Happening } from '../../admin/api.ts'
import { DaemonDownError } from '../admin-client.ts'
import { defineCommand } from '../command.ts'
import { sleep } from '../../core/deadline.ts'
import { type ErrorCode, errorCode } from '../../core/errors.ts'
import { shortId } from '../format.ts'
import type { Output } from '../output.ts'
import { styled } from '../style.ts'

/** Between two attempts to find a daemon that has gone away. */
const RETRY_MS = 500
/** Of a daemon that has ended, is ending, or hangs until it is restarted. */
const GONE: readonly ErrorCode[] = ['Unavailable', 'DeadlineExceeded']

export const command = defineCommand({
  usage: '[-f] [--json]',
  description: `Tells what happens to sandboxes and containers from now on, one line each: CREATED, STARTED, STOPPED, DELETED. It goes on until it is interrupted, or until the daemon ends.

With --follow it waits for the next daemon then. What happens meanwhile is not told: look at the pods again. With --json each line is a JSON object.`,
  options: {
    follow: { type: 'boolean', short: 'f', description: 'go on when the daemon is restarted' },
  },
  operands: [0, 0],
  async run({ out, options, admin, signal }) {
    const client = await admin()
    for (let isFirst = true; ; isFirst = false) {
      try {
        for await (const happening of client.stream<Happening>('/v1/events')) print(out, happening)
        if (!options.follow) return 0
      } catch (error) {
        signal.throwIfAborted()
        if (isFirst && error instanceof DaemonDownError) throw error
        // What the daemon has against it, it would have the next time as well.
        if (!options.follow || !GONE.includes(errorCode(error))) throw error
      }
      out.note('the daemon has gone away: waiting for the next one')
      do await sleep(RETRY_MS, signal)
      while (!(await answers(client)))
      out.note('there is a daemon again')
    }
  },
})

async function answers(client: { call(path: string): Promise<unknown> }): Promise<boolean> {
  try {
    await client.call('/v1/status')
    return true
  } catch {
    // It is asked again.
    return false
  }
}

function print(out: Output, happening: Happening): void {
  if (out.isJson) return out.jsonLine(happening)
  const { at, type, id, sandboxId, name, pod } = happening
  const what = id === sandboxId ? 'sandbox' : 'container'
  const where = id === sandboxId ? pod.namespace : `${pod.namespace}/${pod.name}`
  out.line(
    at,
    ' ',
    styled(type === 'STOPPED' ? 'yellow' : 'green', type.padEnd(7)),
    ` ${what} ${shortId(id)} ${name} (${where})`,
  )
}
