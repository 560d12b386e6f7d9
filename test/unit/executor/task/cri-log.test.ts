import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CriLog } from '../../../../src/executor/task/cri-log.ts'
import { parseLog, text } from '../../../support/container-log.ts'

let dir: string
let path: string

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cri-log-'))
  path = join(dir, '0.log')
})
afterEach(() => rmSync(dir, { recursive: true }))

const content = (): string => readFileSync(path, 'utf8')
const lines = (): string[] => parseLog(content()).map(({ stream, tag, text: line }) => `${stream} ${tag} ${line}`)

describe('a log', () => {
  it('has a record for each line, and one for the end of a chunk without a newline', () => {
    using log = new CriLog({ path, root: '', maxBytes: 0 })
    log.append('stdout', Buffer.from('one\n\ntwo'))
    log.append('stderr', Buffer.from('err\n'))
    log.append('stdout', Buffer.from('\nthree'))
    expect(lines()).toEqual([
      'stdout F one',
      'stdout F ',
      'stdout P two',
      'stderr F err',
      'stdout F ',
      'stdout P three',
    ])
  })

  it('cuts long lines, and keeps every byte', () => {
    using log = new CriLog({ path, root: '', maxBytes: 0 })
    const long = Buffer.from(Array.from({ length: 100_000 }, (_, index) => 97 + (index % 26)))
    log.append('stdout', Buffer.concat([long, Buffer.from('\n'), Buffer.from('\n'.repeat(5000))]))
    const records = parseLog(content())
    expect(Math.max(...records.map((record) => record.text.length))).toBe(8192)
    expect(text(records, 'stdout')).toBe(`${long.toString()}\n${'\n'.repeat(5000)}`)
  })

  it('goes on where an earlier one has stopped, in a line of its own', () => {
    writeFileSync(path, '2024-01-01T00:00:00.000000000Z stdout F a\n2024-01-01T00:00')
    using log = new CriLog({ path, root: '', maxBytes: 0 })
    log.append('stdout', Buffer.from('b\n'))
    expect(content()).toMatch(/ F a\n2024-01-01T00:00\n\d.* stdout F b\n$/)
  })

  it('never grows beyond its limit', () => {
    using log = new CriLog({ path, root: '', maxBytes: 1000 })
    for (let count = 0; count < 500; count++) {
      log.append('stdout', Buffer.from(`line ${count}\n`.repeat(1 + (count % 40))))
      expect(statSync(path).size).toBeLessThanOrEqual(1000)
    }
    expect(lines().at(-1)).toBe('stdout F line 499')
  })

  it('is begun anew where it was moved away, and only there', () => {
    using log = new CriLog({ path, root: '', maxBytes: 0 })
    log.append('stdout', Buffer.from('one\n'))
    log.reopen()
    expect(lines()).toEqual(['stdout F one'])
    renameSync(path, `${path}.1`)
    log.append('stdout', Buffer.from('two\n'))
    log.reopen()
    log.append('stdout', Buffer.from('three\n'))
    expect(lines()).toEqual(['stdout F three'])
    path = `${path}.1`
    expect(lines()).toEqual(['stdout F one', 'stdout F two'])
  })

  it('is not written through a link, of the file or below the directory that was chosen', async () => {
    symlinkSync(join(dir, 'elsewhere'), path)
    expect(() => new CriLog({ path, root: '', maxBytes: 0 })).toThrow(/ELOOP/)
    await mkdir(join(dir, 'real'))
    symlinkSync(join(dir, 'real'), join(dir, 'pod'))
    expect(() => new CriLog({ path: join(dir, 'pod', '0.log'), root: dir, maxBytes: 0 })).toThrow(/link below/)
    using log = new CriLog({ path: join(dir, 'pod', '0.log'), root: join(dir, 'pod'), maxBytes: 0 })
    log.append('stdout', Buffer.from('fine\n'))
    expect(readFileSync(join(dir, 'real', '0.log'), 'utf8')).toMatch(/fine/)
  })
})
