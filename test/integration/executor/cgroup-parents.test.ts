import { existsSync, mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { CgroupParents } from '../../../src/executor/cgroup-parents.ts'
import type { ContainerRecord } from '../../../src/executor/types.ts'
import { cgroupMounts } from '../../../src/host/cgroup/cgroup.ts'

const parent = `/sbt-parents-${process.pid}`
const mounts = cgroupMounts()

function record(id: string, ownedCgroupParents: string[]): ContainerRecord {
  const runtime = { path: '/usr/bin/crun', root: '/run/crun', systemdCgroup: false }
  return { id, runtime, bundleDir: '/', cgroupsPath: `${parent}/${id}`, ownedCgroupParents }
}

function left(): string[] {
  return mounts.map((mount) => join(mount, parent)).filter((path) => existsSync(path))
}

describe('the parents of cgroups', () => {
  afterEach(() => {
    for (const path of left()) rmdirSync(path)
  })

  it('are removed after the last container, also when one is planned while another is released', async () => {
    const parents = new CgroupParents(mounts)
    let old = record('0', await parents.plan('0', `${parent}/0`))
    for (let number = 1; number < 50; number++) {
      for (const mount of mounts) mkdirSync(join(mount, parent), { recursive: true })
      const id = String(number)
      const [owned] = await Promise.all([parents.plan(id, `${parent}/${id}`), parents.release(old)])
      expect(owned).toEqual([parent])
      old = record(id, owned)
    }
    await parents.release(old)
    expect(left()).toEqual([])
  })
})
