import type { Command } from './command.ts'

/** What is known of a command before it is loaded. */
export interface CommandEntry {
  /** One word, or two: `checkpoint verify`. */
  readonly name: string
  /** For the list of commands: lower case, no full stop. */
  readonly summary: string
  readonly load: () => Promise<{ readonly command: Command }>
}

/** All commands, in the order of `sandboxerctl --help`. */
export const COMMANDS: readonly CommandEntry[] = [
  { name: 'status', summary: 'how the daemon is', load: () => import('./commands/status.ts') },
  { name: 'pods', summary: 'the pod sandboxes of this node', load: () => import('./commands/pods.ts') },
  {
    name: 'inspect',
    summary: 'everything on record of a sandbox or container, side by side',
    load: () => import('./commands/inspect.ts'),
  },
  { name: 'events', summary: 'what happens to sandboxes and containers', load: () => import('./commands/events.ts') },
  {
    name: 'doctor',
    summary: 'find what is not as it should be, and put it right',
    load: () => import('./commands/doctor.ts'),
  },
  { name: 'top', summary: 'what pods use, live', load: () => import('./commands/top.ts') },
  { name: 'ledger', summary: 'what sandboxes and containers own', load: () => import('./commands/ledger.ts') },
  {
    name: 'ledger forget',
    summary: 'give up what is owed and can never be released',
    load: () => import('./commands/ledger-forget.ts'),
  },
  {
    name: 'checkpoint show',
    summary: 'the checkpoint of a sandbox or container',
    load: () => import('./commands/checkpoint-show.ts'),
  },
  {
    name: 'checkpoint verify',
    summary: 'whether checkpoints hold',
    load: () => import('./commands/checkpoint-verify.ts'),
  },
  {
    name: 'sandboxers',
    summary: 'who runs sandboxes, and whether they answer',
    load: () => import('./commands/sandboxers.ts'),
  },
  { name: 'pull', summary: 'pull an image, and show how far it is', load: () => import('./commands/pull.ts') },
  { name: 'bench', summary: 'run pods through the CRI and measure it', load: () => import('./commands/bench.ts') },
  {
    name: 'support-bundle',
    summary: 'collect what helps others to help, without secrets',
    load: () => import('./commands/support-bundle.ts'),
  },
  {
    name: 'config check',
    summary: 'check the configuration, and whether this machine fits it',
    load: () => import('./commands/config-check.ts'),
  },
  {
    name: 'config print',
    summary: 'the configuration as it is used',
    load: () => import('./commands/config-print.ts'),
  },
  {
    name: 'log-level',
    summary: 'show or change the log levels of the running daemon',
    load: () => import('./commands/log-level.ts'),
  },
  {
    name: 'reload',
    summary: 'have the daemon read its configuration again',
    load: () => import('./commands/reload.ts'),
  },
]
