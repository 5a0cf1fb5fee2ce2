// What is wrong now, in words: for the overview, and for the colours of the map.

import { share, time } from "./units.js"

// How a target is: [kind, word]. The word says what colour and shape say.
export function condition(target) {
  if (target.held) return ["bad", "held open"]
  if (target.circuit === "open") return ["bad", "circuit open"]
  if (!target.healthy) return ["bad", "ill"]
  if (target.ejected) return ["bad", "set aside"]
  if (target.circuit === "half-open") return ["warn", "half-open"]
  if (target.rate && target.error_rate) return ["warn", `${share(target.error_rate)} fail`]
  return ["ok", "well"]
}

// The worst of an upstream's targets.
export function standing(upstream) {
  if (upstream.paused > 0) return ["warn", `paused ${Math.ceil(upstream.paused)} s`]
  const kinds = upstream.targets.map((target) => condition(target)[0])
  const bad = kinds.filter((kind) => kind === "bad").length
  if (bad && bad === kinds.length) return ["bad", "down"]
  if (bad) return ["warn", `${bad} of ${kinds.length} out`]
  return kinds.includes("warn") ? ["warn", "failing"] : ["ok", "well"]
}

const ALIKE = 5 // troubles of a kind: the rest is a number

// All of it, the worst first: {key, kind, word, text, view}.
export function troubles(state) {
  const all = [ofTheInstance(state), ofRoutes(state), ofUpstreams(state), ofChecks(state)].flatMap(folded)
  return [...all.filter(({ kind }) => kind === "bad"), ...all.filter(({ kind }) => kind !== "bad")]
}

function folded(troubles) {
  const alike = new Map()
  for (const each of troubles) {
    const name = `${each.kind} ${each.word.replace(FIGURE, "")}`
    alike.set(name, [...(alike.get(name) ?? []), each])
  }
  return [...alike.values()].flatMap((all) => {
    const [{ kind, word, view }, left] = [all[0], all.length - ALIKE]
    if (left <= 1) return all
    const rest = found(kind, word.replace(FIGURE, ""), `… and ${left} more.`, view)
    return [...all.slice(0, ALIKE), { ...rest, key: `${kind} ${rest.word} more` }]
  })
}

function* ofTheInstance({ instance }) {
  for (const reason of instance.reasons) yield found("bad", "not ready", reason, "overview")
  if (!instance.reload_ok) yield found("warn", "reload", "The last reload was refused: the configuration before it is in force.", "configuration")
  if (instance.workers.ready < instance.workers.configured)
    yield found("warn", "workers", `${instance.workers.ready} of ${instance.workers.configured} workers are ready.`, "overview")
  if (instance.loop_lag_ms > 50)
    yield found("warn", "saturation", `An event loop was ${time(instance.loop_lag_ms)} late: workers are short of CPU.`, "overview")
}

function* ofUpstreams({ upstreams, routes }) {
  for (const upstream of upstreams) {
    const served = routes.filter((route) => route.upstreams.includes(upstream.name)).map((route) => route.name)
    const to = served.length > 3 ? `${served.length} routes` : served.join(", ")
    const name = to ? `${upstream.name} (asked by ${to})` : upstream.name
    if (upstream.paused > 0) yield found("warn", "paused", `${name} is left alone for ${Math.ceil(upstream.paused)} s: its own quota is used up.`, "map")
    if (upstream.targets.length > 1 && standing(upstream)[1] === "down") yield found("bad", "down", `No target of ${name} is in use.`, "map")
    for (const target of upstream.targets) {
      const [kind, word] = condition(target)
      if (kind !== "ok") yield found(kind, word, `${target.url} of ${name}`, "map")
    }
  }
}

function* ofRoutes({ routes }) {
  for (const route of routes)
    if (route.error_rate > 0) yield found(route.error_rate >= 0.05 ? "bad" : "warn", "errors", `${share(route.error_rate)} of the requests of ${route.name} end with 5xx.`, "problems")
}

function* ofChecks({ probes, alerts }) {
  for (const probe of probes)
    if (probe.up === false) yield found("bad", "probe", `${probe.name}: ${probe.last?.detail ?? "does not find what it expects"}`, "checks")
  for (const alert of alerts)
    if (alert.state === "firing") yield found("bad", "alert", `${alert.name}: ${alert.summary ?? ""}`, "checks")
}

const FIGURE = /[\d.]+ (%|s|ms) ?/g

const found = (kind, word, text, view) => ({ key: `${view} ${word} ${text}`.replace(FIGURE, ""), kind, word, text, view })
