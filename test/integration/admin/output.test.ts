import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { run } from '../../../src/host/programs/run.ts'

const CTL = fileURLToPath(new URL('../../../dist/sandboxerctl.js', import.meta.url))

/** How sandboxerctl ends, and what it says, in a pipeline or with its output somewhere else. */
async function shell(script: string): Promise<{ readonly exitCode: number | undefined; readonly stderr: string }> {
  const { exitCode, stderr } = await run('/bin/bash', ['-c', script, process.execPath, CTL], { timeoutMs: 20_000 })
  return { exitCode, stderr }
}

it.each([
  ['fails when its answer has no room', '"$0" "$1" config print --defaults >/dev/full', 1, /write the answer: ENOSPC/],
  ['does not mind a reader who has had enough', '"$0" "$1" --help | true; exit ${PIPESTATUS[0]}', 0, /^$/],
  ['ends with what it would also where nobody can be told why', '"$0" "$1" nonsense 2>/dev/full', 2, /^$/],
])('%s', async (_, script, exitCode, stderr) => {
  expect(await shell(script)).toEqual({ exitCode, stderr: expect.stringMatching(stderr) as string })
})
