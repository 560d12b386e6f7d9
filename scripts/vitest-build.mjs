import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/**
 * Brings dist/ up to date before tests run: daemons and worker threads under test are the compiled ones.
 * The compiler writes its output also when it finds errors in types; those are for `npm run check` to refuse.
 */
export function setup() {
  const script = fileURLToPath(new URL('./build.sh', import.meta.url))
  const { status, stdout, stderr } = spawnSync('bash', [script, '--if-newer'], { encoding: 'utf8' })
  if (status !== 0) console.warn(`build.sh: exit code ${status}; the tests run what could be built\n${stdout}${stderr}`)
}
