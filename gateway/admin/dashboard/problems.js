// What went wrong, and what took long: requests with their explanation and their hops, newest first.

import { badge, dress, el, empty, keyed, panel, say, table } from "./dom.js"
import { search } from "./tables.js"
import { condition } from "./trouble.js"
import { bytes, clock, count, plain, rate, share, time } from "./units.js"

const FEW = 8

export function problems() {
  const routes = table(
    "Routes with errors in the last ten seconds",
    [
      { label: "Route", text: (each) => each.name, mono: true },
      { label: "5xx", text: (each) => share(each.error_rate), number: true },
      { label: "Rate", text: (each) => rate(each.rate), number: true },
      { label: "p99", text: (each) => time(each.p99_ms), number: true },
    ],
    (each) => each.name,
    { nothing: "None." },
  )
  const targets = table(
    "Targets that are not well",
    [
      { label: "Target", text: (each) => each.url, mono: true },
      { label: "State", make: stated },
      { label: "Fail", text: (each) => (each.rate ? share(each.error_rate) : "–"), number: true, wide: true },
      { label: "Upstream", text: (each) => each.upstream, mono: true, wide: true },
    ],
    (each) => `${each.upstream} ${each.url}`,
    { nothing: "None: all are in use, and no try has failed in the last ten seconds." },
  )
  const reasons = table(
    "Why the gateway itself answered",
    [
      { label: "Reason", text: (each) => each.reason, by: (each) => each.reason, mono: true },
      { label: "Route", text: (each) => each.route, by: (each) => each.route, mono: true },
      { label: "Rate", text: (each) => rate(each.rate), by: (each) => each.rate, number: true },
      { label: "Requests", text: (each) => count(each.count), by: (each) => each.count, number: true },
    ],
    (each) => `${each.reason} ${each.route}`,
    { sorted: { index: 3, down: true }, nothing: "It has not, so far." },
  )
  const filter = search("Find by path, route, reason, consumer or id")
  const failures = requests("Recent failures: 5xx, and what a fallback has answered", "None.")
  const refusals = requests("Recent refusals: what clients may have done wrong", "None.")
  const slowest = requests("The slowest of the last five minutes", "Nothing yet.")
  let latest = null
  filter.addEventListener("input", () => latest && update(latest, true))

  function update(state, asked = false) {
    latest = state
    routes.update(state.routes.filter((each) => each.error_rate > 0).sort((a, b) => b.error_rate - a.error_rate))
    targets.update(failing(state.upstreams))
    reasons.update(state.reasons)
    const wanted = filter.value.toLowerCase()
    const errors = state.errors.filter((each) => matches(each, wanted))
    failures.update(errors.filter((each) => !refused(each)), asked)
    refusals.update(errors.filter(refused), asked)
    slowest.update(state.slowest.filter((each) => matches(each, wanted)), asked)
  }

  const failed = el("div", { class: "grid" }, routes.node, targets.node)
  return { node: el("div", {}, failed, el("div", { class: "tools" }, filter), failures.node, refusals.node, slowest.node, reasons.node), update }
}

const refused = (each) => each.status >= 400 && each.status < 500

function failing(upstreams) {
  const all = upstreams.flatMap((upstream) => upstream.targets.map((target) => ({ ...target, upstream: upstream.name })))
  return all.filter((target) => condition(target)[0] !== "ok")
}

function matches(each, wanted) {
  return [each.path, each.route, each.reason, each.code, each.consumer, each.id, each.trace_id].some((value) => String(value ?? "").toLowerCase().includes(wanted))
}

function stated() {
  const node = el("span")
  return { node, update: (each) => dress(node, ...condition(each)) }
}

// While one of them is open the list stands still: what somebody reads must not move away, or vanish.
function requests(title, nothing) {
  const list = el("ol", { class: "requests" })
  const still = el("p", { class: "muted", hidden: true }, "Newer ones are shown when none is open.")
  const none = empty(nothing)
  const rest = el("button", { type: "button", class: "rest", hidden: true })
  let most = FEW
  let items = []
  rest.addEventListener("click", () => {
    most = most === FEW ? Infinity : FEW
    update(items, true)
  })
  function update(given, asked) {
    still.hidden = asked || !list.querySelector("[open]")
    if (!still.hidden) return
    items = given
    none.hidden = items.length > 0
    rest.hidden = items.length <= FEW
    say(rest, most === FEW ? `Show all ${items.length}` : "Show fewer")
    keyed(list, items.slice(0, most), (each) => `${each.at} ${each.id}`, request)
  }
  return { node: panel(title, still, list, none, rest), update }
}

// A request never changes once it is over, so it is drawn once; its inside when it is opened.
function request(each) {
  const kind = each.status >= 500 ? "bad" : each.status >= 400 || each.reason === "fallback" ? "warn" : "ok"
  const summary = el(
    "summary",
    {},
    el("time", { datetime: each.at ?? "" }, clock(each.at)),
    badge(kind, String(each.status)),
    el("span", { class: "asked mono" }, `${plain(each.method)} ${plain(each.path)}`),
    el("span", { class: "why" }, each.reason || `upstream ${plain(each.upstream)}`),
    el("span", { class: "number" }, time(each.duration_ms)),
  )
  const details = el("details", {}, summary)
  details.addEventListener("toggle", () => details.children.length === 1 && details.append(inside(each)), { once: true })
  return { node: el("li", {}, details), update: () => {} }
}

function inside(each) {
  const facts = [
    ["Told the client", each.detail],
    ["Request id", each.id],
    ["Trace", each.trace_id],
    ["Route", each.version ? `${each.route} ${each.version}` : each.route],
    ["Consumer", each.consumer],
    ["Client", each.client],
    ["Upstream", each.upstream],
    ["Target", each.target],
    ["Tries", each.tries],
    ["Credential", each.auth],
    ["Limit", each.limit],
    ["Fallback", each.fallback],
    ["Took", `${time(each.duration_ms)}, of which the gateway ${time(each.own_ms)}`],
    ["Bytes", `${bytes(each.bytes_in)} in, ${bytes(each.bytes_out)} out`],
  ]
  const known = facts.filter(([, value]) => value != null && value !== "")
  const list = el("dl", { class: "facts" }, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]))
  // What stands in backticks is to be typed, or looked up.
  const words = (each.explanation ?? "").split("`").map((text, index) => (index % 2 ? el("code", {}, text) : text))
  const parts = [el("p", { class: "explanation" }, ...words), list]
  if (each.hops?.length) parts.push(hops(each))
  return el("div", { class: "inside" }, ...parts)
}

function hops(each) {
  const whole = Math.max(each.duration_ms ?? 0, 1e-6)
  const rows = each.hops.map((hop) => {
    const length = el("i", { class: "hop", "aria-hidden": "true" })
    const from = Math.min(100, Math.max(0, ((hop.at_ms ?? 0) / whole) * 100))
    length.style.marginLeft = `${from}%`
    length.style.width = `${Math.min(100 - from, Math.max(0.5, ((hop.took_ms ?? 0) / whole) * 100))}%`
    const cells = [`${hop.stage} ${hop.name ?? ""}`, plain(hop.outcome), time(hop.took_ms)]
    return el("tr", {}, el("th", { scope: "row" }, cells[0]), el("td", {}, cells[1]), el("td", { class: "number" }, cells[2]), el("td", { class: "wide times" }, length))
  })
  const heads = ["Hop", "Outcome", "Took"].map((name, index) => el("th", { scope: "col", class: index === 2 ? "number" : "" }, name))
  const head = el("thead", {}, el("tr", {}, ...heads, el("th", { scope: "col", class: "wide" }, "When")))
  const node = el("div", { class: "scroll" }, el("table", {}, el("caption", {}, "Hops"), head, el("tbody", {}, ...rows)))
  return node
}

