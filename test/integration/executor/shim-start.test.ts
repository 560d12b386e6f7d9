import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Shims } from '../../../src/executor/shim/shims.ts'
import type { ShimRecord } from '../../../src/executor/shim/types.ts'
import { TaskConnections } from '../../../src/executor/task/task-services.ts'
import { loadShimApi } from '../../../src/grpc/load.ts'
import { loadLibc } from '../../../src/host/libc.ts'
import { readBootId } from '../../../src/host/process.ts'
import { Programs } from '../../../src/host/programs/programs.ts'
import { SHIM_NAMESPACE, shimFiles } from '../../support/machine.ts'
import { findShim } from '../../support/peers.ts'
import { pidsNaming } from './bench.ts'

const api = loadShimApi()
/** After so many milliseconds a start is cut off: before, while and after the shim makes its socket. */
const CUT_AFTER_MS = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40]

describe.skipIf(!findShim())('a shim of which the start is cut off', () => {
  let dir: string
  let programs: Programs
  let services: TaskConnections
  let shims: Shims

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sandboxerd-shims-'))
    programs = new Programs()
    services = new TaskConnections({}, { definition: api.containerd.task.v3.Task.service, messages: api.ttrpc })
    const [ownerAddress, bootId] = [join(dir, 'state', 'events.sock'), readBootId()]
    await mkdir(dirname(ownerAddress))
    const searchPath = `${dirname(findShim() ?? '')}:/usr/sbin:/usr/bin:/sbin:/bin`
    const warm = { directory: join(dir, 'warm'), size: 0, ownerAddress, bootId }
    shims = new Shims(
      { ownerAddress, searchPath, runtimeMs: 30_000, callMs: 5000, bootId, warm },
      { run: programs.run, libc: loadLibc(), services, messages: api, logger: pino({ level: 'silent' }) },
    )
  })
  afterEach(async () => {
    await shims[Symbol.asyncDispose]()
    services[Symbol.dispose]()
    await programs[Symbol.asyncDispose]()
    await rm(dir, { recursive: true })
  })

  async function planned(id: string): Promise<ShimRecord> {
    const bundleDir = join(dir, id)
    await mkdir(bundleDir)
    await writeFile(join(bundleDir, 'config.json'), '{}')
    const eventsAddress = join(dir, 'state', 'events.sock')
    const rest = { runtimeType: 'io.containerd.runc.v2', netnsPath: '', options: null }
    return shims.plan({ id, bundleDir, namespace: SHIM_NAMESPACE, eventsAddress, ...rest })
  }

  it.each(CUT_AFTER_MS)('after %d ms leaves neither a process nor the file of its socket', async (cutAfterMs) => {
    const ids = Array.from({ length: 4 }, () => randomBytes(32).toString('hex'))
    for (const id of ids) {
      const record = await planned(id)
      await shims.start(record, AbortSignal.timeout(cutAfterMs)).catch(() => undefined)
      await shims.delete(record, null, AbortSignal.timeout(20_000))
      expect(pidsNaming(id)).toEqual([])
    }
    expect(shimFiles({ dir, node: '', cgroupParent: '', ids, daemons: [] })).toEqual([])
  })
})
