// The live feed over fetch: EventSource could not send the token. Asks again with growing pauses when it breaks off.

const KEY = "gateway-admin-token"
const FIRST_PAUSE = 500
const LONGEST_PAUSE = 15000
const SILENCE = 25000 // milliseconds; there is a state each second, and a comment after ten without one

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
}

export function headers(accept) {
  const sent = token.get()
  return { Accept: accept, "X-Gateway-Client": "dashboard", ...(sent ? { Authorization: `Bearer ${sent}` } : {}) }
}

export class Refused extends Error {
  constructor(status, detail) {
    super(detail)
    this.status = status
  }
}

// What an endpoint says. Throws Refused.
export async function ask(path) {
  const reply = await fetch(path, { headers: headers("application/json"), cache: "no-store" })
  if (!reply.ok) throw await refusal(reply)
  return reply.json()
}

async function refusal(reply) {
  const problem = await reply.json().catch(() => ({}))
  return new Refused(reply.status, problem.detail ?? problem.title ?? `It answered ${reply.status}.`)
}

// Runs for ever. Calls `heard(state)`, `lost(milliseconds until the next try, why)`, and waits for `locked()` where a
// token is needed.
export async function listen({ heard, lost, locked }) {
  let pause = FIRST_PAUSE
  const told = (state) => {
    pause = FIRST_PAUSE
    heard(state)
  }
  for (;;) {
    let why = "The connection has ended."
    try {
      await once(told)
    } catch (error) {
      if (error.status === 401) {
        await locked()
        continue
      }
      why = error instanceof Refused ? error.message : "The gateway does not answer."
    }
    const wait = pause * (0.75 + Math.random() / 2)
    pause = Math.min(LONGEST_PAUSE, pause * 2)
    lost(wait, why)
    await new Promise((done) => setTimeout(done, wait))
  }
}

async function once(heard) {
  const control = new AbortController()
  let watchdog = setTimeout(() => control.abort(), SILENCE)
  try {
    const reply = await fetch("api/v1/live", {
      headers: headers("text/event-stream"),
      cache: "no-store",
      signal: control.signal,
    })
    if (!reply.ok) throw await refusal(reply)
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader()
    let held = ""
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      clearTimeout(watchdog)
      watchdog = setTimeout(() => control.abort(), SILENCE)
      const events = (held + value).split("\n\n")
      held = events.pop()
      for (const event of events) take(event, heard)
    }
  } finally {
    clearTimeout(watchdog)
    control.abort()
  }
}

function take(event, heard) {
  const lines = event.split("\n")
  if (!lines.includes("event: state")) return
  heard(JSON.parse(lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n")))
}
