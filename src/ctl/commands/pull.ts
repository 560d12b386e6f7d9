import type { PullProgress } from '../../admin/api.ts'
import { codeOfName } from '../../admin/error-codes.ts'
import { UsageError } from '../../cli/args.ts'
import { CodedError } from '../../core/errors.ts'
import { defineCommand } from '../command.ts'
import { type Auth, authFromFile } from '../pull/auth-file.ts'
import { PullDisplay } from '../pull/display.ts'
import { readPassword } from '../pull/password.ts'

/** A pull begins with an answer, and goes on for as long as it takes. */
const FIRST_ANSWER_MS = 30_000

export const command = defineCommand({
  usage: '[--auth-file FILE | --user NAME] [--json] IMAGE',
  description: `Pulls an image into the image store of the daemon, as the kubelet would have it pulled, shows how far it is, and prints its id. Ctrl-C ends the pull, unless somebody else waits for the same image.

Credentials are never taken from the command line, where every user of the node can read them: --auth-file reads a file as podman login and docker login write it, --user asks for a password, or reads the first line of standard input where that is no terminal.

  sandboxerctl pull docker.io/library/busybox:latest
  sandboxerctl pull --user ci registry.example/app:1 <password.txt`,
  options: {
    'auth-file': { type: 'string', value: 'FILE', description: 'take the credentials from FILE' },
    user: { type: 'string', value: 'NAME', description: 'log in as NAME; the password is asked for' },
  },
  operands: [1, 1],
  async run({ options, operands: [image = ''], out, signal, admin }) {
    const auth = await credentials(options, image, signal)
    const request = { image, ...(auth === undefined ? {} : { auth }) }
    const client = await admin()
    const states = client.stream<PullProgress>('/v1/images/pull', {
      method: 'POST',
      body: request,
      timeoutMs: FIRST_ANSWER_MS,
    })
    let last: PullProgress | undefined
    {
      using display = new PullDisplay(out)
      for await (const state of states) {
        last = state
        display.show(state)
      }
    }
    if (last?.error !== undefined) throw new CodedError(codeOfName(last.error.code), last.error.message)
    if (last?.imageRef === undefined) throw new CodedError('Unavailable', `pull ${image}: the daemon ended meanwhile`)
    return 0
  },
})

async function credentials(
  options: { readonly 'auth-file'?: string; readonly user?: string },
  image: string,
  signal: AbortSignal,
): Promise<Auth | undefined> {
  const { 'auth-file': file, user } = options
  if (file !== undefined && user !== undefined) throw new UsageError('--auth-file and --user do not go together')
  if (file !== undefined) return authFromFile(file, image)
  if (user === undefined) return undefined
  if (user === '' || user.includes(':')) {
    throw new UsageError('--user takes the name alone: the password is asked for, or read from standard input')
  }
  const prompt = (text: string): unknown => process.stderr.write(text)
  return { username: user, password: await readPassword(process.stdin, prompt, signal) }
}
