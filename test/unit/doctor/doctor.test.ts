import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Doctor, type Suspicion } from '../../../src/doctor/doctor.ts'

const NEVER = new AbortController().signal
const logger = { info: () => undefined, warn: () => undefined }

/** Something that is wrong until it is repaired. */
function wound(changes: Partial<Suspicion> = {}): Suspicion & { readonly isThere: boolean } {
  let isThere = true
  return {
    kind: 'orphan-thing',
    ownerId: 'owner',
    subject: '/thing',
    message: 'a thing',
    isStill: async () => isThere,
    repair: async () => {
      isThere = false
    },
    ...changes,
    get isThere() {
      return isThere
    },
  }
}

function doctorOf(suspicions: readonly Suspicion[], alone: string[] = []): Doctor {
  const look = async (): Promise<readonly Suspicion[]> => {
    const still = await Promise.all(suspicions.map(({ isStill }) => isStill()))
    return suspicions.filter((_, at) => still[at])
  }
  return new Doctor(
    { repairMs: 1000 },
    {
      checks: [{ look }],
      logger,
      alone: async (id, work) => {
        alone.push(id)
        return work()
      },
    },
  )
}

describe('Doctor.examine', () => {
  it('only tells, unless it is told to repair', async () => {
    const thing = wound()
    const found = await doctorOf([thing]).examine(false, NEVER)
    expect(found).toEqual([
      {
        kind: 'orphan-thing',
        ownerId: 'owner',
        subject: '/thing',
        message: 'a thing',
        outcome: 'found',
        problem: null,
      },
    ])
    expect(thing.isThere).toBe(true)
  })

  it('repairs, and finds nothing the next time', async () => {
    const doctor = doctorOf([wound()])
    expect((await doctor.examine(true, NEVER)).map(({ outcome }) => outcome)).toEqual(['fixed'])
    expect(await doctor.examine(true, NEVER)).toEqual([])
  })

  it('looks again and repairs while nobody does anything with the owner', async () => {
    const alone: string[] = []
    let looks = 0
    const thing = wound({ isStill: async () => ++looks === 1 })
    expect(await doctorOf([thing], alone).examine(true, NEVER)).toEqual([])
    expect(alone).toEqual(['owner'])
    expect(thing.isThere).toBe(true)
  })

  it('says why something cannot be repaired, and goes on with the others', async () => {
    const failing = wound({ repair: () => Promise.reject(new Error('device busy')) })
    const hopeless = wound({ repair: 'restart the daemon' })
    const found = await doctorOf([failing, hopeless, wound()]).examine(true, NEVER)
    expect(found.map(({ outcome, problem }) => [outcome, problem])).toEqual([
      ['failed', 'device busy'],
      ['failed', 'restart the daemon'],
      ['fixed', null],
    ])
  })

  it('is not satisfied with a repair that did not help', async () => {
    const thing = wound({ settle: () => Promise.reject(new Error('still quarantined')) })
    const [finding] = await doctorOf([thing]).examine(true, NEVER)
    expect(finding).toMatchObject({ outcome: 'failed', problem: 'still quarantined' })
  })

  it('tells of a check that cannot be made, and makes the others', async () => {
    const broken = { look: () => Promise.reject(new Error('read /proc: no')) }
    const whole = { look: async () => [wound()] }
    const alone = <T>(_id: string, work: () => Promise<T>): Promise<T> => work()
    const doctor = new Doctor({ repairMs: 1000 }, { checks: [broken, whole], alone, logger })
    expect((await doctor.examine(false, NEVER)).map(({ kind }) => kind)).toEqual(['check-failed', 'orphan-thing'])
  })

  it('ends with its caller', async () => {
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    await expect(doctorOf([wound()]).examine(false, controller.signal)).rejects.toThrow('enough')
  })

  it('tells what it has seen of an owner whose operation hangs, and all else, and repairs nothing of it later', async () => {
    const [busy, free] = [wound({ ownerId: 'busy' }), wound({ ownerId: 'free' })]
    const turns: (() => void)[] = []
    const late: Promise<unknown>[] = []
    const alone = <T>(id: string, work: () => Promise<T>): Promise<T> => {
      if (id === 'free') return work()
      const turn = new Promise<void>((resolve) => {
        turns.push(resolve)
      }).then(work)
      late.push(turn.catch(() => undefined))
      return turn
    }
    const look = async () => [busy, free]
    const doctor = new Doctor({ repairMs: 1000, turnMs: 20 }, { checks: [{ look }], alone, logger })
    expect(
      (await doctor.examine(true, NEVER)).map(({ ownerId, outcome, problem }) => [ownerId, outcome, problem]),
    ).toEqual([
      ['busy', 'failed', 'wait for what is under way with busy: no end after 20 ms'],
      ['free', 'fixed', null],
    ])
    turns.forEach((resolve) => resolve())
    await Promise.all(late)
    expect(busy.isThere).toBe(true)
  })

  it('gives a repair the time that it has, however long its turn was waited for', async () => {
    const thing = wound()
    const slow = wound({ repair: () => sleep(60) })
    const alone = <T>(_id: string, work: () => Promise<T>): Promise<T> => work()
    const checks = [{ look: async () => [slow, thing] }]
    const doctor = new Doctor({ repairMs: 1000, turnMs: 20 }, { checks, alone, logger })
    expect((await doctor.examine(true, NEVER)).map(({ outcome }) => outcome)).toEqual(['fixed', 'fixed'])
  })

  it('ends with its caller also when a check or what follows a repair does not, and can be asked again', async () => {
    const hanging = async (): Promise<never> => new Promise(() => {})
    let isHanging = true
    const checks = [{ look: async () => (isHanging ? hanging() : [wound({ settle: hanging })]) }]
    const alone = <T>(_id: string, work: () => Promise<T>): Promise<T> => work()
    const doctor = new Doctor({ repairMs: 20 }, { checks, alone, logger })
    await expect(doctor.examine(true, AbortSignal.timeout(20))).rejects.toThrow('timeout')
    isHanging = false
    expect((await doctor.examine(true, NEVER)).map(({ outcome }) => outcome)).toEqual(['failed'])
  })

  it('ends with its caller also while another operation on the owner goes on, and repairs nothing after it', async () => {
    const controller = new AbortController()
    const thing = wound()
    let endOther = (): void => undefined
    const other = new Promise<void>((resolve) => {
      endOther = resolve
    })
    let late: Promise<unknown> | undefined
    const alone = <T>(_id: string, work: () => Promise<T>): Promise<T> => {
      const turn = other.then(work)
      late = turn.catch(() => undefined)
      return turn
    }
    const doctor = new Doctor({ repairMs: 1000 }, { checks: [{ look: async () => [thing] }], alone, logger })
    const examined = doctor.examine(true, controller.signal)
    await setImmediate()
    controller.abort(new Error('enough'))
    await expect(examined).rejects.toThrow('enough')
    endOther()
    await late
    expect(thing.isThere).toBe(true)
  })
})
