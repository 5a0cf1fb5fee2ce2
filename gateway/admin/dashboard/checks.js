// Probes, objectives and alerts: what watches the APIs when nobody does.

import { dress, el, mark, say, table } from "./dom.js"
import { clock, count, plain, share, since, time } from "./units.js"

const ALERTS = { firing: "bad", pending: "warn" }

export function checks() {
  const alerts = table(
    "Alerts",
    [
      { label: "Alert", text: (each) => each.name, by: (each) => each.name },
      { label: "State", make: stated((each) => [ALERTS[each.state] ?? "ok", plain(each.state)]) },
      { label: "Since", text: (each) => since(each.since), number: true },
      { label: "What", text: (each) => plain(each.summary) },
      { label: "Labels", text: (each) => labels(each.labels), wide: true, mono: true },
    ],
    (each) => `${each.name} ${labels(each.labels)}`,
    { nothing: "None fires, and none is about to. To be told of them by a webhook: alerts in the configuration." },
  )
  const probes = table(
    "Probes",
    [
      { label: "Probe", text: (each) => each.name, by: (each) => each.name },
      { label: "State", make: stated((each) => (each.up == null ? ["none", "not run yet"] : each.up ? ["ok", "up"] : ["bad", "down"])) },
      { label: "Request", text: (each) => `${each.method} ${each.path}`, mono: true },
      { label: "Status", text: (each) => plain(each.last?.status), number: true },
      { label: "Took", text: (each) => time(each.last?.took_ms), number: true },
      { label: "What it found", text: (each) => plain(each.last?.detail) },
      { label: "Last", text: (each) => clock(each.last?.at), wide: true },
      { label: "Every", text: (each) => (typeof each.every === "number" ? `${each.every} s` : plain(each.every)), number: true, wide: true },
      { label: "Runs", text: (each) => count(typeof each.runs === "number" ? each.runs : null), number: true, wide: true },
    ],
    (each) => each.name,
    { nothing: "None is configured: a probe (probes) asks a route every few seconds, even when nobody else does." },
  )
  const slo = table(
    "Objectives, since the start of the gateway",
    [
      { label: "Route", text: (each) => each.route, by: (each) => each.route, mono: true },
      { label: "Objective", text: (each) => each.slo, by: (each) => each.slo },
      { label: "Promised", text: (each) => precise(each.objective), number: true },
      { label: "Kept", text: (each) => precise(kept(each)), by: kept, number: true },
      { label: "State", make: stated(budget) },
      { label: "Budget used", make: used, number: true },
      { label: "Good", text: (each) => count(each.good), number: true, wide: true },
      { label: "Bad", text: (each) => count(each.bad), by: (each) => each.bad, number: true },
    ],
    (each) => `${each.route} ${each.slo}`,
    { nothing: "No route has any: slo of a route says which share of its requests has to succeed, and how fast." },
  )
  function update(state) {
    alerts.update(state.alerts)
    probes.update(state.probes)
    slo.update(state.slo)
  }
  return { node: el("div", {}, alerts.node, probes.node, slo.node), update }
}

const SAID = ["alertname", "instance"] // by another column, or the same for all
const labels = (all) => Object.entries(all ?? {}).filter(([name]) => !SAID.includes(name)).map(([name, value]) => `${name}=${value}`).join(" ") || "–"
const kept = (each) => (each.good + each.bad ? each.good / (each.good + each.bad) : null)
const precise = (value) => (value == null ? "–" : `${+(value * 100).toFixed(3)} %`)

// The share of what may go wrong that has.
function spent(each) {
  const allowed = (each.good + each.bad) * (1 - each.objective)
  return each.bad === 0 ? 0 : allowed ? each.bad / allowed : Infinity
}

function budget(each) {
  if (kept(each) == null) return ["none", "no requests"]
  return spent(each) > 1 ? ["bad", "missed"] : spent(each) > 0.75 ? ["warn", "close"] : ["ok", "met"]
}

function used() {
  const length = el("i", { "aria-hidden": "true" })
  const text = el("span")
  const node = el("span", { class: "part" }, el("span", { class: "track" }, length), text)
  const update = (each) => {
    const part = spent(each)
    say(text, part > 10 ? "> 1000 %" : share(part))
    mark(length, "class", part > 1 ? "s5xx" : "")
    length.style.width = `${Math.min(1, part) * 100}%`
  }
  return { node, update }
}

function stated(kindOf) {
  return () => {
    const node = el("span")
    return { node, update: (each) => dress(node, ...kindOf(each)) }
  }
}
