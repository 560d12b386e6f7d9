import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import { parseOverride } from '../../../src/config/override.ts'
import { parseSettings } from '../../../src/config/parse.ts'

let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandboxerd-config-'))
})

afterEach(async () => {
  await rm(dir, { recursive: true })
})

describe('loadConfig', () => {
  it('uses the embedded defaults when there is no default file, with the overrides on top', async () => {
    const defaultPath = join(dir, 'none.toml')
    expect(await loadConfig({ defaultPath })).toEqual({ ...parseSettings('', ''), file: undefined })
    const { config } = await loadConfig({ defaultPath, overrides: [parseOverride('log.level=debug')] })
    expect(config.log.level).toBe('debug')
  })

  it('reads the default file when it is there, and the one that is named before it', async () => {
    const [defaultPath, path] = [join(dir, 'default.toml'), join(dir, 'named.toml')]
    await writeFile(defaultPath, 'state = "/default"')
    await writeFile(path, '\uFEFFstate = "/named"')
    expect(await loadConfig({ defaultPath })).toMatchObject({ file: defaultPath, config: { state: '/default' } })
    expect(await loadConfig({ defaultPath, path })).toMatchObject({ file: path, config: { state: '/named' } })
  })

  it('does not do without a file that is named', async () => {
    const path = join(dir, 'none.toml')
    await expect(loadConfig({ path, defaultPath: path })).rejects.toThrow(
      `configuration ${path}: cannot be read: ENOENT`,
    )
  })

  it('does not take a default file that cannot be read for a missing one', async () => {
    await expect(loadConfig({ defaultPath: dir })).rejects.toThrow('cannot be read: EISDIR')
    await writeFile(join(dir, 'latin1.toml'), Buffer.from([0x72, 0xe9]))
    await expect(loadConfig({ defaultPath: join(dir, 'latin1.toml') })).rejects.toThrow('cannot be read: ')
  })

  it('names the file in its errors', async () => {
    const path = join(dir, 'bad.toml')
    await writeFile(path, 'a = 1\nb = 2')
    await expect(loadConfig({ path })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: `read the configuration ${path}: a: unknown key; b: unknown key`,
      problems: ['a: unknown key', 'b: unknown key'],
    })
  })
})
