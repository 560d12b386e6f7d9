import { expect, it } from 'vitest'
import { runtimeMessage } from '../../../src/executor/runtime-message.ts'

it.each([
  ['executable file `x` not found\n', 'executable file `x` not found'],
  [
    String.raw`time="2026-11-21T06:03:47Z" level=error msg="exec failed: \"x\": not found"`,
    'exec failed: "x": not found',
  ],
  [String.raw`time="2026-11-21T06:03:47Z" level=error msg="\x00 is no JSON"`, expect.stringContaining('is no JSON')],
  ['one\n\n two \n', 'one; two'],
  ['', ''],
])('says of %j', (stderr, message) => {
  expect(runtimeMessage(stderr)).toEqual(message)
})
