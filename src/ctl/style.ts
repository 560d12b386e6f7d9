import { escapeControls } from '../core/escape-controls.ts'

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

/** Text that is shown in a style, where there are any. */
export interface Styled {
  readonly text: string
  readonly style: Style
}

export type Text = string | Styled

const CODES: Readonly<Record<Style, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 }

export function styled(style: Style, text: string): Styled {
  return { text, style }
}

/** The text as it may go to a terminal: what others have put into it steers nothing. */
export function render(text: Text, hasColor: boolean): string {
  if (typeof text === 'string') return escapeControls(text)
  const clean = escapeControls(text.text)
  return hasColor && clean !== '' ? `\u001b[${CODES[text.style]}m${clean}\u001b[0m` : clean
}

/** How many columns it takes, where every character takes one. */
export function widthOf(text: Text): number {
  return Array.from(escapeControls(typeof text === 'string' ? text : text.text)).length
}
