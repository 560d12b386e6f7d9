/**
 * The text with everything escaped that could steer a terminal or hide what it says: control characters (also those of
 * C1), line separators, and those that turn the direction of writing.
 */
export function escapeControls(value: string): string {
  return value.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}
