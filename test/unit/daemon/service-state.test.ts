import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ServiceState } from '../../../src/daemon/service/service-state.ts'

const logger = pino({ level: 'silent' })
let sent: string[]
let hasRoom: boolean
let state: ServiceState

beforeEach(() => {
  vi.useFakeTimers()
  sent = []
  hasRoom = true
  const send = (message: string): boolean => {
    if (hasRoom) sent.push(message)
    return hasRoom
  }
  state = new ServiceState({ notify: { send, [Symbol.dispose]: () => undefined }, logger })
})
afterEach(() => {
  state[Symbol.dispose]()
  vi.useRealTimers()
})

describe('ServiceState', () => {
  it('says that it serves, and then how it is when that changes', () => {
    let text = 'recovering 0 of 2 pods'
    state.ready(() => text)
    vi.advanceTimersByTime(10_000)
    text = '2 pods run'
    vi.advanceTimersByTime(10_000)
    expect(sent).toEqual(['READY=1', 'STATUS=recovering 0 of 2 pods', 'STATUS=2 pods run'])
  })

  it('keeps a status on its line, and a note behind it', () => {
    state.status('2 pods\nREADY=1')
    state.note('a restart is needed')
    state.status('3 pods run')
    state.note('')
    expect(sent).toEqual([
      'STATUS=2 pods READY=1',
      'STATUS=2 pods READY=1; a restart is needed',
      'STATUS=3 pods run; a restart is needed',
      'STATUS=3 pods run',
    ])
  })

  it('is ready again after a reload, also after one that fails', async () => {
    state.ready(() => 'fine')
    sent = []
    await state.reloading(async () => sent.push('reload'))
    const failing = state.reloading(() => Promise.reject(new Error('broken')))
    await expect(failing).rejects.toThrow('broken')
    const reloading = expect.stringMatching(/^RELOADING=1\nMONOTONIC_USEC=\d+$/) as string
    expect(sent).toEqual([reloading, 'reload', 'READY=1', reloading, 'READY=1'])
  })

  it('tells of no reload before it serves, nor once it ends: its end would say that we serve', async () => {
    await state.reloading(async () => undefined)
    expect(sent).toEqual([])
    state.ready(() => 'fine')
    await state.reloading(async () => {
      sent = []
      state.stopping(1000)
    })
    await state.reloading(async () => undefined)
    expect(sent).toEqual(['STOPPING=1\nEXTEND_TIMEOUT_USEC=1000000', 'STATUS=stopping; pods go on'])
  })

  it('asks for time for what takes long, as long as it lasts, but not for ever', async () => {
    let finish = (): void => undefined
    const work = new Promise<void>((resolve) => {
      finish = resolve
    })
    const done = state.takingLong('opening the database', () => work)
    vi.advanceTimersByTime(25_000)
    const extend = 'EXTEND_TIMEOUT_USEC=60000000'
    expect(sent).toEqual(['STATUS=opening the database', extend, extend, extend])
    vi.advanceTimersByTime(3_600_000)
    expect(sent.length).toBeLessThan(200)
    finish()
    await done
    sent = []
    vi.advanceTimersByTime(60_000)
    expect(sent).toEqual([])
  })

  it('asks for the time to stop, and tells no more how the pods are', () => {
    state.ready(() => `${sent.length} pods run`)
    sent = []
    state.stopping(40_000)
    vi.advanceTimersByTime(10_000)
    expect(sent).toEqual(['STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000', 'STATUS=stopping; pods go on'])
  })

  it('sends again, in order, what the manager had no room for, of each kind the newest', () => {
    hasRoom = false
    state.ready(() => 'fine')
    state.ping()
    hasRoom = true
    for (const note of ['ill', 'better', 'well']) state.note(note)
    state.ping()
    expect(sent).toEqual([])
    vi.advanceTimersByTime(200)
    expect(sent).toEqual(['READY=1', 'STATUS=fine; well', 'WATCHDOG=1'])
    state.ping()
    expect(sent.at(-1)).toBe('WATCHDOG=1')
    expect(state.pings).toBe(3)
  })

  it('goes on when nobody listens any more, and without a service manager', () => {
    const send = (): boolean => {
      throw new Error('nobody')
    }
    using broken = new ServiceState({ notify: { send, [Symbol.dispose]: () => undefined }, logger })
    broken.ready(() => 'fine')
    using alone = new ServiceState({ notify: undefined, logger })
    alone.ready(() => 'fine')
    alone.ping()
    expect(alone.pings).toBe(1)
  })
})
