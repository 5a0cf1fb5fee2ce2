// The views that are one table each: routes, and consumers by use.

import { sparkline } from "./charts.js"
import { el, mark, say, table } from "./dom.js"
import { count, plain, rate, share, time } from "./units.js"

const NOBODY = "anonymous"
const NO_ROUTE = "none" // what no route took

export function routes(history) {
  const filter = search("Find a route")
  const more = el("p", { class: "muted" })
  const columns = [
    { label: "Route", text: (each) => each.name, by: (each) => each.name, mono: true },
    { label: "Traffic", make: () => trend(history, ["rate", "errors"], (each, name) => history.of(`route ${name} ${each.name}`)), wide: true },
    { label: "Rate", text: (each) => rate(each.rate), by: (each) => each.rate, number: true },
    { label: "5xx now", make: alarming, by: (each) => each.error_rate, number: true },
    { label: "p50", text: (each) => time(each.p50_ms), by: (each) => each.p50_ms, number: true, wide: true },
    { label: "p95", text: (each) => time(each.p95_ms), by: (each) => each.p95_ms, number: true, wide: true },
    { label: "p99", text: (each) => time(each.p99_ms), by: (each) => each.p99_ms, number: true },
    { label: "Latency (p99)", make: () => trend(history, ["p99"], (each, name) => history.of(`route ${name} ${each.name}`)), wide: true },
    { label: "own p99", text: (each) => time(each.own_p99_ms), by: (each) => each.own_p99_ms, number: true, wide: true },
    { label: "Requests", text: (each) => count(each.requests), by: (each) => each.requests, number: true },
    { label: "5xx", text: (each) => count(each.errors), by: (each) => each.errors, number: true },
    { label: "Refused", text: (each) => count(each.refused), by: (each) => each.refused, number: true },
    { label: "Upstreams", text: (each) => each.upstreams.join(", ") || "–", wide: true, mono: true },
  ]
  const shown = table("Routes", columns, (each) => each.name, { sorted: { index: 9, down: true } })
  let latest = null
  filter.addEventListener("input", () => latest && update(latest))

  function update(state) {
    latest = state
    const wanted = filter.value.toLowerCase()
    shown.update(state.routes.filter((each) => each.name.toLowerCase().includes(wanted)))
    say(more, state.more.routes ? `${count(state.more.routes)} quieter routes are not shown, and not found.` : "")
  }
  const hint = el("p", { class: "muted" }, `Rates, shares and percentiles of the last ten seconds; counts since the start. “${NO_ROUTE}” is what no route took.`)
  return { node: el("div", {}, el("div", { class: "tools" }, filter, hint), shown.node, more), update }
}

export function consumers(history) {
  const columns = [
    { label: "Consumer", text: (each) => each.name || NOBODY, by: (each) => each.name || NOBODY },
    { label: "Traffic", make: () => trend(history, ["rate"], (each) => history.of(`consumer ${each.name}`)), wide: true },
    { label: "Rate", text: (each) => rate(each.rate), by: (each) => each.rate, number: true },
    { label: "Requests", text: (each) => count(each.requests), by: (each) => each.requests, number: true },
    { label: "Share", make: part, number: true },
    { label: "5xx", text: (each) => count(each.errors), by: (each) => each.errors, number: true },
    { label: "Refused", text: (each) => count(each.refused), by: (each) => each.refused, number: true },
  ]
  const shown = table("Consumers by use", columns, (each) => each.name, { sorted: { index: 3, down: true } })
  const hint = el("p", { class: "muted" }, "Configured consumers by name, other callers by the provider that vouched for them. Who is behind a provider: gateway usage.")
  function update(state) {
    shown.update(state.consumers.map((each) => ({ ...each, share: each.requests / (state.totals.requests || 1) })))
  }
  return { node: el("div", {}, el("div", { class: "tools" }, hint), shown.node), update }
}

export function search(label) {
  return el("input", { type: "search", placeholder: `${label} ( / )`, "aria-label": label, spellcheck: "false", autocomplete: "off" })
}

// The last minutes, as far as the page has seen them.
function trend(history, names, points) {
  const drawn = sparkline(names)
  return { node: drawn.node, update: (each) => drawn.update(names.map((name) => points(each, name)), history.span) }
}

function alarming() {
  const node = el("span")
  const update = (each) => {
    say(node, each.rate ? share(each.error_rate) : plain(""))
    mark(node, "class", each.error_rate > 0 ? "bad" : "")
  }
  return { node, update }
}

function part() {
  const length = el("i", { "aria-hidden": "true" })
  const text = el("span")
  const node = el("span", { class: "part" }, el("span", { class: "track" }, length), text)
  const update = (each) => {
    say(text, share(each.share))
    length.style.width = `${each.share * 100}%`
  }
  return { node, update }
}
