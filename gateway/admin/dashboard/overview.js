// The first view: what is wrong, how much is going on, and where.

import { chart } from "./charts.js"
import { dress, el, empty, keyed, mark, panel, say } from "./dom.js"
import { troubles } from "./trouble.js"
import { bytes, count, rate, time } from "./units.js"

export function overview(history) {
  const traffic = chart("Traffic", [{ name: "rate", label: "requests" }, { name: "errors", label: "5xx" }], rate)
  const latency = chart(
    "Latency",
    [{ name: "p99", label: "p99" }, { name: "p95", label: "p95" }, { name: "p50", label: "p50" }],
    time,
  )
  const wrong = el("ul", { class: "troubles" })
  const fine = empty("Nothing needs attention.")
  const tiles = el("dl", { class: "tiles" })
  const statuses = bars("Replies since the start", "status")
  const busiest = bars("Busiest routes, requests a second", "route")
  const reasons = bars("Why the gateway itself answered", "reason")
  const node = el(
    "div",
    { class: "grid" },
    el("section", { class: "panel whole", "aria-label": "Attention" }, el("h2", {}, "Attention"), wrong, fine),
    traffic.node,
    latency.node,
    panel("Since the start", tiles),
    statuses.node,
    busiest.node,
    reasons.node,
  )

  function update(state) {
    const found = troubles(state)
    fine.hidden = found.length > 0
    keyed(wrong, found, (each) => each.key, trouble)
    traffic.update(["rate", "errors"].map((name) => history.of(name)), history.span)
    latency.update(["p99", "p95", "p50"].map((name) => history.of(name)), history.span)
    keyed(tiles, figures(state), ([name]) => name, tile)
    statuses.update(Object.entries(state.statuses).map(([name, value]) => [name, value, count(value)]))
    const busy = [...state.routes].sort((a, b) => b.rate - a.rate).slice(0, 8)
    busiest.update(busy.filter((route) => route.rate).map((route) => [route.name, route.rate, rate(route.rate)]))
    const why = [...state.reasons].sort((a, b) => b.count - a.count).slice(0, 8)
    reasons.update(why.map((each) => [`${each.reason} · ${each.route}`, each.count, count(each.count)]))
  }
  return { node, update }
}

function figures({ totals, instance }) {
  const open = Object.values(instance.listeners).reduce((sum, each) => sum + each, 0)
  return [
    ["Requests", count(totals.requests), "requests"],
    ["5xx", count(totals.errors), "errors"],
    ["Refused (401, 403, 429)", count(totals.refused), "refused"],
    ["Answered by the gateway", count(totals.ended), "ended"],
    ["Received", bytes(totals.bytes_in), "in"],
    ["Sent", bytes(totals.bytes_out), "out"],
    ["Open connections", count(open), "open"],
    ["Event loop late by", time(instance.loop_lag_ms), "lag"],
  ]
}

function tile([name, , id]) {
  const value = el("dd", { "data-total": id })
  return { node: el("div", {}, el("dt", {}, name), value), update: ([, text]) => say(value, text) }
}

function trouble() {
  const kind = el("span")
  const text = el("a")
  const update = (each) => {
    dress(kind, each.kind, each.word)
    say(text, each.text)
    mark(text, "href", `#${each.view}`)
  }
  return { node: el("li", {}, kind, text), update }
}

// A list of names with a number each, and a bar as long as its part of the largest.
export function bars(title, kind) {
  const list = el("ul", { class: `bars ${kind}` })
  const none = empty()
  const node = panel(title, list, none)
  function update(entries) {
    const most = Math.max(...entries.map(([, value]) => value), 1e-9)
    none.hidden = entries.length > 0
    keyed(list, entries, ([name]) => name, bar)
    for (const [index, item] of [...list.children].entries())
      item.querySelector("i").style.width = `${(entries[index][1] / most) * 100}%`
  }
  return { node, update }
}

function bar([name]) {
  const value = el("b")
  const length = el("i", { "aria-hidden": "true", class: `s${name.slice(0, 3)}` })
  const node = el("li", {}, el("span", { class: "name" }, name), value, el("span", { class: "track" }, length))
  return { node, update: ([, , text]) => say(value, text) }
}

