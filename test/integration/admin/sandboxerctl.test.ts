import { copyFile, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type {
  DaemonStatus,
  Happening,
  Inspection,
  LedgerLine,
  PodSummary,
  SandboxerStatus,
} from '../../../src/admin/api.ts'
import { run } from '../../../src/host/programs/run.ts'
import { sharedDaemon } from '../../support/daemon.ts'
import { ctl, ctlJson, ctlText, GoingCtl, TerminalCtl } from '../../support/sandboxerctl.ts'
import { TestPod } from '../../support/test-pod.ts'

const daemon = sharedDaemon({
  config: ({ dir }) => ({ sandboxers: { gone: { address: join(dir, 'gone.sock') } } }),
})

/** What of an answer is the same whether the daemon gives it or its files do. */
function lasting(pods: readonly PodSummary[]): unknown {
  return pods.map(({ id, name, namespace, state, sandboxer, pid, ips, containers, steps }) => {
    return { id, name, namespace, state, sandboxer, pid, ips, containers, steps }
  })
}

describe('sandboxerctl with a daemon', () => {
  it('tells how it is, and who runs its sandboxes', async () => {
    const status = await ctlJson<DaemonStatus>(daemon(), 'status')
    expect(status).toMatchObject({ config: join(daemon().dir, 'config.toml'), owed: 0, running: [] })
    expect(status.conditions).toEqual({ RuntimeReady: true, NetworkReady: true })
    expect(status.pid).toBeGreaterThan(1)
    expect(await ctl(daemon(), 'status')).toMatchObject({ exitCode: 0 })

    const sandboxers = await ctlJson<readonly SandboxerStatus[]>(daemon(), 'sandboxers')
    expect(sandboxers).toContainEqual(expect.objectContaining({ name: 'shim', address: null, reachable: true }))
    expect(sandboxers).toContainEqual(expect.objectContaining({ name: 'gone', reachable: false, latencyMs: null }))
    expect((await ctl(daemon(), 'sandboxers')).exitCode).toBe(1)
  })

  it('shows a pod and its container from all sides', async () => {
    const pod = await TestPod.run(daemon(), 'crun', daemon().pod())
    const containerId = await pod.start()
    const [summary] = await ctlJson<readonly PodSummary[]>(daemon(), 'pods', pod.id.slice(0, 12))
    expect(summary).toMatchObject({ id: pod.id, state: 'RUNNING', sandboxer: 'shim', frontEnd: 'cri', containers: 1 })
    expect(summary?.ips).toHaveLength(1)
    expect(summary?.netns).toContain(join(daemon().dir, 'netns'))
    expect(await ctlText(daemon(), 'pods', '--steps')).toMatch(/setupSandboxNetwork +\d/)

    const sandbox = await ctlJson<Inspection>(daemon(), 'inspect', `test/${pod.config.metadata?.name ?? ''}`)
    expect(sandbox).toMatchObject({ id: pod.id, kind: 'sandbox', problems: [], row: { isSealed: true } })
    expect(sandbox.checkpoint?.problem).toBeNull()
    expect(sandbox.ledger.map(({ kind, state }) => `${kind} ${state}`)).toContain('cni held')
    expect(JSON.stringify(sandbox.network)).toContain(summary?.ips[0])
    expect(sandbox.runtime).toMatchObject({ sandboxer: 'shim', status: { state: 'running' } })

    const container = await ctlJson<Inspection>(daemon(), 'inspect', containerId.slice(0, 12))
    expect(container).toMatchObject({ id: containerId, kind: 'container', state: 'RUNNING', problems: [] })
    expect(container.runtime).toMatchObject({ runs: true, runtimeSpec: { ociVersion: expect.any(String) as string } })
    expect(await ctlText(daemon(), 'inspect', containerId)).toContain('checkpoint: ')

    const ledger = await ctlJson<readonly LedgerLine[]>(daemon(), 'ledger', pod.id)
    expect(ledger.find(({ kind }) => kind === 'netns')?.subject).toBe(summary?.netns)
    expect(await ctlText(daemon(), 'top', '--once')).toMatch(
      new RegExp(`${pod.id.slice(0, 13)} +test +${pod.config.metadata?.name} .* % `),
    )
    expect(await ctl(daemon(), 'checkpoint', 'verify')).toMatchObject({ exitCode: 0 })
    expect(await ctlJson(daemon(), 'checkpoint', 'show', containerId)).toMatchObject({ problem: null })
  })

  it('draws what pods use on a terminal until it is interrupted, and leaves the screen as it was', async () => {
    await TestPod.run(daemon())
    await using top = new TerminalCtl(daemon(), 'top', '--interval', '0.5')
    await top.until(({ stdout }) => (stdout.match(/1 pods/g)?.length ?? 0) > 1)
    top.type('\u0003')
    expect(await top.ended()).toBe(130)
    expect(top.stdout).toMatch(/^.*\?1049h/)
    expect(top.stdout.trimEnd().endsWith('[?25h\u001b[?1049l')).toBe(true)
  })

  it('follows what happens', async () => {
    await using events = new GoingCtl(daemon(), 'events', '-f', '--json')
    await waitForFollowers(daemon(), [events])
    const pod = await TestPod.run(daemon())
    await pod.start()
    await daemon().client.remove(pod.id)
    const told = (): readonly Happening[] => happenings(events.stdout).filter(({ sandboxId }) => sandboxId === pod.id)
    await events.until(() => told().some(({ type, id }) => type === 'DELETED' && id === pod.id))
    const ofPod = told().filter(({ id }) => id === pod.id)
    expect(ofPod.map(({ type }) => type)).toEqual(['CREATED', 'STARTED', 'STOPPED', 'DELETED'])
    expect(new Set(ofPod.map(({ name }) => name))).toEqual(new Set([pod.config.metadata?.name]))
    const ofContainer = told().filter(({ id }) => id !== pod.id)
    expect(ofContainer.map(({ type }) => type)).toEqual(['CREATED', 'STARTED', 'STOPPED', 'DELETED'])
    expect(ofContainer.every((one) => one.name !== '' && one.pod.namespace === 'test')).toBe(true)
    events.interrupt()
    expect(await events.ended()).toBe(130)
  })

  it('changes log levels, reads the configuration again, and gives metrics', async () => {
    expect(await ctlJson(daemon(), 'log-level', 'cni=debug')).toMatchObject({ '': 'info', cni: 'debug' })
    expect(await ctl(daemon(), 'log-level', 'nothing=debug')).toMatchObject({ exitCode: 1 })
    expect(await ctlJson(daemon(), 'reload')).toEqual({ changed: [], needRestart: [] })
    const socket = join(daemon().dir, 'state', 'admin.sock')
    const curl = await run('/usr/bin/curl', ['-s', '--unix-socket', socket, 'http://x/metrics'], { timeoutMs: 10_000 })
    expect(curl.stdout).toContain('sandboxerd_')
  })
})

describe('sandboxerctl without a daemon', () => {
  it('says so, tells what is on record, and changes none of the files', async () => {
    const node = daemon()
    const pod = await TestPod.run(node, 'crun', node.pod())
    const containerId = await pod.start()
    const before = await ctlJson<readonly PodSummary[]>(node, 'pods')
    await node.kill9()
    const files = await rootFiles(node.dir)

    const down = await ctl(node, 'status')
    expect(down).toMatchObject({ exitCode: 1, stdout: '' })
    expect(down.stderr).toContain(`nobody serves ${join(node.dir, 'state', 'admin.sock')}`)
    expect(await ctlText(node, 'pods')).toContain('sandboxerd is not running: this is what is on record')
    expect(lasting(await ctlJson(node, 'pods'))).toEqual(lasting(before))
    const sandbox = await ctlJson<Inspection>(node, 'inspect', pod.id.slice(0, 10))
    expect(sandbox).toMatchObject({ problems: [], row: { isSealed: true }, runtime: { runs: true } })
    expect((await ctlJson<readonly LedgerLine[]>(node, 'ledger', containerId)).length).toBeGreaterThan(2)
    expect(await ctl(node, 'checkpoint', 'verify')).toMatchObject({ exitCode: 0 })
    expect(await rootFiles(node.dir)).toEqual(files)
  })

  it('does not hold up a daemon that starts and works meanwhile', async () => {
    const node = daemon()
    await TestPod.run(node)
    await node.kill9()
    let asking = true
    const readers = (async () => {
      const codes = []
      while (asking) codes.push((await ctl(node, 'pods', '--offline')).exitCode)
      return codes
    })()
    await node.launch()
    await node.recovered()
    const more = await TestPod.run(node)
    asking = false
    expect(new Set(await readers)).toEqual(new Set([0]))
    const found = await ctlJson<readonly PodSummary[]>(node, 'pods', '--offline', more.id)
    expect(found).toMatchObject([{ id: more.id, state: 'RUNNING' }])
    expect(node.logs()).not.toContain('set aside')
  })

  it('finds a checkpoint that was tampered with, and a database that is damaged', async () => {
    const node = daemon()
    const pod = await TestPod.run(node)
    await node.stop()
    const checkpoint = join(node.dir, 'root', 'sandboxes', pod.id, 'checkpoint.json')
    const text = await readFile(checkpoint, 'utf8')
    await writeFile(checkpoint, text.replace('"namespace":"test"', '"namespace":"tesu"'))
    expect(await ctlText(node, 'checkpoint', 'verify')).toContain('hash does not match')
    expect(await ctl(node, 'checkpoint', 'verify')).toMatchObject({ exitCode: 1 })
    expect((await ctlJson<Inspection>(node, 'inspect', pod.id)).problems.join()).toContain('hash does not match')
    await writeFile(checkpoint, text)

    await copyFile(node.database, join(node.dir, 'sound.db'))
    await writeFile(node.database, 'no database')
    const told = await ctl(node, 'pods', pod.id.slice(0, 10))
    expect(told.stderr).toContain('is damaged')
    expect(told.stdout).toContain(pod.id.slice(0, 13))
    await copyFile(join(node.dir, 'sound.db'), node.database)
  })

  it('is told by a daemon that ends, which waits for no follower, and finds the next one', async () => {
    const node = daemon()
    await using once = new GoingCtl(node, 'events')
    await using following = new GoingCtl(node, 'events', '--follow')
    await waitForFollowers(node, [once, following])
    const begin = performance.now()
    expect(await node.stop()).toBe(0)
    expect(performance.now() - begin).toBeLessThan(8000)
    expect(await once.ended()).toBe(1)
    expect(once.stderr).toContain('the daemon is stopping')
    await following.until(({ stderr }) => stderr.includes('waiting for the next one'))
    await node.launch()
    await following.until(({ stderr }) => stderr.includes('there is a daemon again'))
    const pod = await TestPod.run(node)
    await following.until(({ stdout }) => stdout.includes(pod.id.slice(0, 13)))
  })
})

/** All that was told in whole lines. */
function happenings(text: string): readonly Happening[] {
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Happening)
}

/** Every file below the root directory, with its size and time. */
async function rootFiles(dir: string): Promise<readonly string[]> {
  const root = join(dir, 'root')
  const names = (await readdir(root, { recursive: true })).filter((name) => !name.startsWith('images')).toSorted()
  const stats = await Promise.all(names.map(async (name) => [name, await stat(join(root, name))] as const))
  return stats.map(([name, { size, mtimeMs }]) => `${name} ${size} ${mtimeMs}`)
}

/** Resolves when each has told of a pod. */
async function waitForFollowers(node: Parameters<typeof TestPod.run>[0], all: readonly GoingCtl[]): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt++) {
    const { id } = await TestPod.run(node)
    await node.client.remove(id)
    await sleep(300)
    if (all.every(({ stdout }) => stdout !== '')) return
  }
  throw new Error('the followers were told of nothing')
}
