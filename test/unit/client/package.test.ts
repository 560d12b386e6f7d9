import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { run, runOk } from '../../../src/host/programs/run.ts'

const REPO = fileURLToPath(new URL('../../..', import.meta.url))
/** Uses all that is meant for others; an import that is not there, or has no type, is an error. */
const CONSUMER = `
import { CodedError, connectSandboxer, type CreateRequest, type ErrorCode, type PodSandboxConfig, type SandboxerConnection } from 'sandboxerd/client'

const config: PodSandboxConfig = { metadata: { name: 'a' }, linux: { security_context: { namespace_options: { network: 'NODE' } } } }
const request: CreateRequest = { id: 'a', config }
await using sandboxer: SandboxerConnection = connectSandboxer({ address: '/nobody.sock' })
// @ts-expect-error a name that is none: the types of the configuration are there
const wrong: PodSandboxConfig = { metadata: { nam: 'a' } }
try {
  await sandboxer.create(request, { timeoutMs: 1000 })
} catch (error) {
  const code: ErrorCode | 'none' = error instanceof CodedError ? error.code : 'none'
  console.log(code)
}
export { wrong }
`

let dir = ''
afterEach(async () => {
  if (dir !== '') await rm(dir, { recursive: true })
})

describe('the package, as npm packs it', () => {
  it('has a client that compiles and runs elsewhere', async () => {
    dir = await mkdtemp(join(tmpdir(), 'package-'))
    const npm = ['pack', '--dry-run', '--json', '--ignore-scripts']
    const { stdout } = await runOk('npm', npm, { cwd: REPO, timeoutMs: 60_000, maxOutputBytes: 16 * 1024 * 1024 })
    const [{ files }] = JSON.parse(stdout) as [{ files: readonly { readonly path: string }[] }]
    const packed = join(dir, 'node_modules/sandboxerd')
    for (const path of new Set(files.map((file) => dirname(file.path))))
      await mkdir(join(packed, path), { recursive: true })
    await Promise.all(files.map(({ path }) => cp(join(REPO, path), join(packed, path))))
    await symlink(join(REPO, 'node_modules'), join(packed, 'node_modules'))
    await writeFile(join(dir, 'package.json'), '{ "type": "module" }')
    await writeFile(join(dir, 'consumer.ts'), CONSUMER)

    const options = '--strict --module nodenext --target es2022 --lib es2023,esnext.disposable,dom --outDir out'
    const tsc = await run(join(REPO, 'node_modules/.bin/tsc'), [...options.split(' '), 'consumer.ts'], {
      cwd: dir,
      timeoutMs: 60_000,
    })
    expect(tsc.stdout).toBe('')
    const node = await run(process.execPath, ['out/consumer.js'], { cwd: dir, timeoutMs: 30_000 })
    expect(node).toMatchObject({ stdout: 'Unavailable\n', exitCode: 0 })
  }, 120_000)
})
