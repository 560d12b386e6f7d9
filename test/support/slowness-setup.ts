import { expect } from 'vitest'
import { slowed } from './slowness.ts'

/** As vitest has it. */
const POLL_MS = 1000

// Every `expect.poll` of the tests waits longer on a slow machine.
const { poll } = expect
expect.poll = (read, options = {}) => poll(read, { ...options, timeout: slowed(options.timeout ?? POLL_MS) })
