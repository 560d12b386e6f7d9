/** `12 ms`, `3.4 s`, `5 m`, `7 h`, `9 d`; `-` for what is not known. */
export function durationText(ms: number | null): string {
  if (ms === null) return '-'
  if (ms < 1) return `${ms.toFixed(2)} ms`
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 120) return `${minutes} m`
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`
}

/** How long ago that was. */
export function ageText(iso: string, nowMs = Date.now()): string {
  const ms = nowMs - Date.parse(iso)
  return Number.isNaN(ms) ? '-' : durationText(Math.max(0, Math.round(ms / 1000) * 1000))
}

/** As much of an id as people need; what is no id stays. */
export function shortId(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, 13) : id
}
