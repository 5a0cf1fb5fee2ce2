// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 })

export const count = (value) => (value == null ? "–" : whole.format(value))

export function rate(value) {
  if (value == null) return "–"
  return value === 0 ? "0/s" : `${value >= 100 ? whole.format(value) : value.toFixed(value >= 10 ? 1 : 2)}/s`
}

export function share(value) {
  if (value == null) return "–"
  if (value === 0) return "0 %"
  return value < 0.0001 ? "< 0.01 %" : `${(value * 100).toFixed(value < 0.1 ? 2 : 1)} %`
}

export function time(ms) {
  if (ms == null) return "–"
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`
  if (ms >= 100) return `${ms.toFixed(0)} ms`
  return ms >= 1 ? `${ms.toFixed(1)} ms` : `${(ms * 1000).toFixed(0)} µs`
}

export function bytes(value) {
  if (value == null) return "–"
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
  let unit = 0
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024
  return `${unit && value < 100 ? value.toFixed(1) : whole.format(value)} ${units[unit]}`
}

// 14:03:59 today, with the day before it otherwise.
export function clock(text) {
  const at = new Date(text ?? NaN)
  if (Number.isNaN(at.getTime())) return "–"
  const hours = at.toLocaleTimeString("en-GB")
  return at.toDateString() === new Date().toDateString() ? hours : `${at.toLocaleDateString("en-CA")} ${hours}`
}

// How long ago, in words.
export function since(text, now = Date.now()) {
  const seconds = Math.max(0, (now - new Date(text ?? NaN)) / 1000)
  if (Number.isNaN(seconds)) return "–"
  if (seconds < 90) return `${Math.round(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} days`
}

// For words of the API that are to be shown as they are.
export const plain = (value) => (value == null || value === "" ? "–" : String(value))
