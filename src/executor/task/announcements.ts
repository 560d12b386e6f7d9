import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { waitFor } from '../../core/deadline.ts'
import { errnoOf } from '../../core/errors.ts'
import { parseOciJson } from '../../oci/json.ts'
import type { Spec } from '../../oci/spec.ts'
import type { TaskRecord } from '../types.ts'
import { unlessMissing } from './task-calls.ts'
import { loadIo, NO_STDIO, type Stdio, stdioIn } from './stdio.ts'
import type { AnnouncedProcess, AnnouncedTask, TaskAnnouncer } from './types.ts'

interface Announced {
  readonly record: TaskRecord
  readonly processes: Map<string, AnnouncedProcess>
}

/**
 * What the sandboxers of announced records have been told. An announcement always has all tasks of its sandbox, so that those
 * of one sandbox are made one after the other.
 */
export class Announcements {
  readonly #announcer: TaskAnnouncer
  readonly #sandboxes = new Map<string, { readonly tasks: Map<string, Announced>; last: Promise<unknown> }>()

  constructor(deps: { readonly announcer: TaskAnnouncer }) {
    this.#announcer = deps.announcer
  }

  /** Takes note of a container that has been announced by an earlier daemon. */
  adopt(record: TaskRecord): void {
    if (record.announced) this.#sandbox(record).tasks.set(record.id, { record, processes: new Map() })
  }

  /** Tells of a new container. Its bundle is complete. @throws CodedError as the announcer does. */
  async add(record: TaskRecord, signal: AbortSignal): Promise<void> {
    if (!record.announced) return
    this.adopt(record)
    await this.#announce(record, signal)
  }

  /** Drops one that nobody is to be told of any more. */
  forget(record: TaskRecord): void {
    const sandbox = this.#sandboxes.get(record.sandboxId)
    sandbox?.tasks.delete(record.id)
    if (sandbox?.tasks.size === 0) this.#sandboxes.delete(record.sandboxId)
  }

  /** Tells that a container has gone, unless its sandbox has, too, or there is nobody any more to be told. */
  async remove(record: TaskRecord, signal: AbortSignal): Promise<void> {
    if (!record.announced) return
    const sandbox = this.#sandbox(record)
    sandbox.tasks.delete(record.id)
    await unlessMissing(this.#announce(record, signal))
    if (sandbox.tasks.size === 0 && this.#sandboxes.get(record.sandboxId) === sandbox) {
      this.#sandboxes.delete(record.sandboxId)
    }
  }

  /** Tells of a new command in a container. @param process.spec JSON. */
  async addProcess(
    record: TaskRecord,
    process: { readonly execId: string; readonly spec: string; readonly stdio: Stdio },
    signal: AbortSignal,
  ): Promise<void> {
    if (!record.announced) return
    const { execId, stdio } = process
    const { stdin, stdout, stderr } = stdio
    const announced = { exec_id: execId, spec: parseOciJson(process.spec), stdin, stdout, stderr }
    this.#sandbox(record).tasks.get(record.id)?.processes.set(execId, announced)
    await this.#announce(record, signal)
  }

  async removeProcess(record: TaskRecord, execId: string, signal: AbortSignal): Promise<void> {
    if (this.#sandboxes.get(record.sandboxId)?.tasks.get(record.id)?.processes.delete(execId)) {
      await this.#announce(record, signal)
    }
  }

  #sandbox({ sandboxId }: TaskRecord): { readonly tasks: Map<string, Announced>; last: Promise<unknown> } {
    const sandbox = this.#sandboxes.get(sandboxId) ?? { tasks: new Map(), last: Promise.resolve() }
    this.#sandboxes.set(sandboxId, sandbox)
    return sandbox
  }

  async #announce(record: TaskRecord, signal: AbortSignal): Promise<void> {
    const sandbox = this.#sandbox(record)
    const told = sandbox.last.then(async () => {
      signal.throwIfAborted()
      // As they are now: whoever has come or gone meanwhile is told of with this one.
      const tasks = await Promise.all([...sandbox.tasks.values()].map(announcedTask))
      await this.#announcer.announce(record.sandboxId, tasks.flat(), signal)
    })
    sandbox.last = told.catch(() => undefined)
    await waitFor(told, signal)
  }
}

/** None, when its bundle has gone: nothing can be made of it any more. */
async function announcedTask({ record, processes }: Announced): Promise<AnnouncedTask[]> {
  const [text, io] = await Promise.all([
    readFile(join(record.bundleDir, 'config.json'), 'utf8').catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    }),
    loadIo(record.bundleDir),
  ])
  if (text === null) return []
  const spec = parseOciJson(text) as Spec
  const { stdin, stdout, stderr } = io ? stdioIn(record.bundleDir, io) : NO_STDIO
  const rootfs = [{ type: 'bind', source: spec.root?.path ?? '', options: ['rbind', 'rw'] }]
  return [{ task_id: record.id, spec, rootfs, stdin, stdout, stderr, processes: [...processes.values()] }]
}
