import { GLOBAL_OPTIONS } from '../../src/ctl/args.ts'
import type { Options } from '../../src/ctl/command.ts'
import { COMMANDS } from '../../src/ctl/commands.ts'
import { daemonOptions } from './manual-pages.ts'

/** What may follow a program, or a command of it. */
interface Words {
  /** What was typed before: '' for the program alone, `checkpoint`, `checkpoint show`. */
  readonly after: string
  readonly commands: readonly Word[]
  readonly options: readonly OptionWord[]
}

interface Word {
  readonly word: string
  readonly text: string
}

interface OptionWord extends Word {
  /** Letter of the short form. */
  readonly short: string | undefined
  /** What its value is; undefined for one without. */
  readonly value: string | undefined
}

type Program = 'sandboxerd' | 'sandboxerctl'

const MADE = 'Made by test/unit/packaging/completions.test.ts: vitest -u writes it anew.'

/** Everything that can be completed for a program. */
async function wordsOf(program: Program): Promise<Words[]> {
  if (program === 'sandboxerd') return [{ after: '', commands: [], options: daemonOptions().map(daemonOption) }]
  const version = { version: { type: 'boolean', description: 'print the version, then exit' } } as const
  const groups = new Map<string, Word[]>()
  const all: Words[] = []
  for (const { name, summary, load } of COMMANDS) {
    const [first = '', second] = name.split(' ')
    if (second !== undefined) groups.set(first, [...(groups.get(first) ?? []), { word: second, text: summary }])
    all.push({
      after: name,
      commands: [],
      options: optionWords({ ...(await load()).command.options, ...GLOBAL_OPTIONS }),
    })
  }
  for (const [after, commands] of groups) {
    // `ledger` is a command, and `ledger forget` another.
    const index = all.findIndex((words) => words.after === after)
    const options = all[index]?.options ?? optionWords({ help: GLOBAL_OPTIONS.help })
    all.splice(index < 0 ? all.length : index, index < 0 ? 0 : 1, { after, commands, options })
  }
  const firsts = new Map(
    COMMANDS.toReversed().map(({ name, summary }) => [name.split(' ')[0] ?? '', { name, summary }]),
  )
  const commands = [...firsts].toReversed().map(([word, { name, summary }]) => ({
    word,
    text: name === word ? summary : textOfGroup(word),
  }))
  return [{ after: '', commands, options: optionWords({ ...GLOBAL_OPTIONS, ...version }) }, ...all]
}

function textOfGroup(word: string): string {
  return COMMANDS.filter(({ name }) => name.startsWith(`${word} `))
    .map(({ name }) => name.slice(word.length + 1))
    .join(', ')
}

function optionWords(options: Options): OptionWord[] {
  return Object.entries(options).map(([word, { short, value, description }]) => ({
    word,
    short,
    value,
    text: description,
  }))
}

function daemonOption({ term, text }: { readonly term: string; readonly text: string }): OptionWord {
  const [word = '', value] = term.replace('--', '').split(' ')
  return { word, value, short: undefined, text: text.replace(/ \(default.*|, as --set.*/, '') }
}

/** The files of bash, zsh and fish for a program, by the name of the shell. */
export async function completions(program: Program): Promise<Readonly<Record<'bash' | 'zsh' | 'fish', string>>> {
  const words = await wordsOf(program)
  return { bash: bash(program, words), zsh: zsh(program, words), fish: fish(program, words) }
}

/** Finds the command among what was typed: the longest that is one, options and their values aside. */
function findCommand(words: readonly Words[], typed: string): string {
  if (words.length === 1) return "  local after=''\n"
  const known = words.flatMap(({ after }) => (after === '' ? [] : [`'${after}'`]))
  return `  local after='' skip='' word
  for word in ${typed}; do
    if [[ -n $skip ]]; then
      skip=''
      continue
    fi
    case $word in
      ${valueOptions(words)}) skip=1 ;;
      -*) ;;
      *)
        case "\${after:+$after }$word" in
          ${known.join(' | ')})
            after="\${after:+$after }$word"
            ;;
        esac
        ;;
    esac
  done
`
}

function isPath({ value }: Pick<OptionWord, 'value'>): boolean {
  return /^(PATH|FILE|DIR)/.test(value ?? '')
}

/** The options that have a value, as a pattern of a shell. */
function valueOptions(words: readonly Words[], which: (option: OptionWord) => boolean = () => true): string {
  const options = words.flatMap(({ options: all }) =>
    all.filter((option) => option.value !== undefined && which(option)),
  )
  const names = options.flatMap(({ word, short }) => [...(short === undefined ? [] : [`-${short}`]), `--${word}`])
  return [...new Set(names)].join(' | ')
}

function bash(program: Program, words: readonly Words[]): string {
  const cases = words.map(({ after, commands, options }) => {
    const all = [...commands.map(({ word }) => word), ...options.map(({ word }) => `--${word}`)]
    return `    '${after}') offered='${all.join(' ')}' ;;`
  })
  return `# bash completion of ${program}. ${MADE}

_${program}() {
  local at=$COMP_CWORD offered=''
  local current=\${COMP_WORDS[at]}
  case \${COMP_WORDS[at - 1]} in
    ${valueOptions(words, isPath)})
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      compopt -o filenames
      return
      ;;
    ${valueOptions(words, (option) => !isPath(option))}) return ;;
  esac
${findCommand(words, '"${COMP_WORDS[@]:1:at-1}"')}  case $after in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$current")
}
complete -F _${program} ${program}
`
}

function zsh(program: Program, words: readonly Words[]): string {
  const cases = words.map(({ after, commands, options }) => {
    const all = [
      ...commands.map((word) => zshWord(word.word, word)),
      ...options.map((option) => zshWord(`--${option.word}`, option)),
    ]
    return `    '${after}')\n      offered=(\n${all.map((word) => `        ${word}\n`).join('')}      )\n      ;;`
  })
  return `#compdef ${program}
# ${MADE}

_${program}() {
  local -a offered
  case $words[CURRENT-1] in
    ${valueOptions(words, isPath)})
      _files
      return
      ;;
    ${valueOptions(words, (option) => !isPath(option))}) return 1 ;;
  esac
${findCommand(words, '"${(@)words[2,CURRENT-1]}"')}  case $after in
${cases.join('\n')}
  esac
  _describe ${program} offered
}
_${program} "$@"
`
}

function zshWord(word: string, { text }: Word): string {
  return `'${`${word}:${text}`.replaceAll("'", "'\\''")}'`
}

function fish(program: Program, words: readonly Words[]): string {
  const lines = words.flatMap(({ after, commands, options }) => {
    const when = words.length === 1 ? '' : ` -n "__${program}_after '${after}'"`
    return [
      ...commands.map(({ word, text }) => `complete -c ${program} -f${when} -a ${word} -d ${fishText(text)}`),
      ...options.map(({ word, short, value, text }) => {
        const takes = value === undefined ? '' : isPath({ value }) ? ' -r -F' : ' -x'
        const letter = short === undefined ? '' : ` -s ${short}`
        return `complete -c ${program}${when}${letter} -l ${word}${takes} -d ${fishText(text)}`
      }),
    ]
  })
  const helper = words.length === 1 ? '' : fishAfter(program, words)
  return `# fish completion of ${program}. ${MADE}\n${helper}\ncomplete -c ${program} -f\n${lines.join('\n')}\n`
}

function fishAfter(program: Program, words: readonly Words[]): string {
  const known = words.flatMap(({ after }) => (after === '' ? [] : [`'${after}'`]))
  return `
# Whether the command that has been typed is this one.
function __${program}_after
    set -l after ''
    set -l skip ''
    for word in (commandline -opc)[2..]
        if test -n "$skip"
            set skip ''
            continue
        end
        switch $word
            case ${valueOptions(words).replaceAll(' | ', ' ')}
                set skip 1
            case '-*'
            case '*'
                set -l longer (string trim "$after $word")
                contains -- $longer ${known.join(' ')}; and set after $longer
        end
    end
    test "$after" = "$argv[1]"
end
`
}

function fishText(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
