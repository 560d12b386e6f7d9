import { escapeControls } from '../core/escape-controls.ts'
import { render, type Text, widthOf } from './style.ts'

/** A stream of text that people or programs read. */
export interface Sink {
  write(text: string): unknown
}

export interface OutputOptions {
  /** Whether the caller wants JSON. */
  readonly json: boolean
  readonly isTerminal: boolean
  readonly hasColor: boolean
  /** Of the terminal, at this moment; undefined when there is none. */
  readonly size: () => { readonly columns: number; readonly rows: number } | undefined
}

export interface Column {
  readonly title: string
  /** Numbers stand to the right. */
  readonly right?: boolean
  /** On a terminal that is too narrow these are left out, 1 first. One without it never is. */
  readonly drop?: number
}

const GAP = '  '

/** What a command prints. Whatever pods are named, no control character of theirs reaches a terminal. */
export class Output {
  readonly isJson: boolean
  readonly isTerminal: boolean
  readonly size: OutputOptions['size']
  readonly #hasColor: boolean
  readonly #sinks: { readonly stdout: Sink; readonly stderr: Sink }

  constructor(options: OutputOptions, sinks: { readonly stdout: Sink; readonly stderr: Sink }) {
    this.isJson = options.json
    this.isTerminal = options.isTerminal
    this.size = options.size
    this.#hasColor = options.hasColor
    this.#sinks = sinks
  }

  /** One line made of these, with nothing between them. */
  line(...texts: readonly Text[]): void {
    this.#sinks.stdout.write(`${texts.map((text) => render(text, this.#hasColor)).join('')}\n`)
  }

  /** Text of several lines that is ours, as a help or a configuration. */
  text(text: string): void {
    this.#sinks.stdout.write(text.split('\n').map(escapeControls).join('\n'))
  }

  /** One line for people on standard error, in JSON mode as well. */
  note(text: string): void {
    this.#sinks.stderr.write(`${escapeControls(text)}\n`)
  }

  /** The whole answer of a command, when {@link isJson}. */
  json(value: unknown): void {
    this.#sinks.stdout.write(`${jsonText(value, 2)}\n`)
  }

  /** One of many answers, on one line. */
  jsonLine(value: unknown): void {
    this.#sinks.stdout.write(`${jsonText(value)}\n`)
  }

  /** A line is as long as it has to be; on a terminal that is too narrow, columns with a `drop` are left out. */
  table(columns: readonly Column[], rows: readonly (readonly Text[])[]): void {
    const shown = fitting(columns, rows, this.size()?.columns ?? Infinity)
    for (const row of [headOf(columns), ...rows]) this.#sinks.stdout.write(`${this.#row(shown, row, Infinity)}\n`)
  }

  /** The lines of a table, ready to be written, none wider than `width`: what columns with a `drop` do not save is cut. */
  tableLines(columns: readonly Column[], rows: readonly (readonly Text[])[], width: number): string[] {
    const shown = fitting(columns, rows, width)
    return [headOf(columns), ...rows].map((row) => this.#row(shown, row, width))
  }

  /** What is written as it is: lines of {@link tableLines}, and what moves the cursor. */
  raw(text: string): void {
    this.#sinks.stdout.write(text)
  }

  #row(columns: readonly Shown[], row: readonly Text[], limit: number): string {
    let line = ''
    let left = limit
    for (const { at, width, right } of columns) {
      const cell = cut(row[at] ?? '', left)
      const padding = ' '.repeat(Math.max(0, Math.min(width, left) - widthOf(cell)))
      const text = render(cell, this.#hasColor)
      line += right ? padding + text : text + padding
      left -= width
      if (left <= 0) break
      line += GAP
      left -= GAP.length
    }
    return line.trimEnd()
  }
}

/** A column with its place among all, and the width of its widest cell. */
type Shown = Column & { readonly at: number; readonly width: number }

/** The columns that are shown in so much room: those that can be left out go one after the other until the rest has it. */
function fitting(columns: readonly Column[], rows: readonly (readonly Text[])[], room: number): readonly Shown[] {
  const widest = (at: number, title: string): number =>
    rows.reduce((width, row) => Math.max(width, widthOf(row[at] ?? '')), title.length)
  let shown = columns.map((column, at) => ({ ...column, at, width: widest(at, column.title) }))
  const needed = (): number => shown.reduce((sum, { width }) => sum + width + GAP.length, -GAP.length)
  for (const { at } of shown.filter(({ drop }) => drop !== undefined).sort((a, b) => (a.drop ?? 0) - (b.drop ?? 0))) {
    if (needed() <= room) break
    shown = shown.filter((column) => column.at !== at)
  }
  return shown
}

function headOf(columns: readonly Column[]): readonly Text[] {
  return columns.map(({ title }) => ({ text: title, style: 'bold' }))
}

function cut(text: Text, width: number): Text {
  if (widthOf(text) <= width) return text
  const clean = Array.from(escapeControls(typeof text === 'string' ? text : text.text))
    .slice(0, Math.max(0, width))
    .join('')
  return typeof text === 'string' ? clean : { ...text, text: clean }
}

/** JSON escapes only the older half of the control characters by itself. */
function jsonText(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, undefined, indent)
  return text.split('\n').map(escapeControls).join('\n')
}
