// The map: clients → routes → upstreams → targets, with how each of them is. Focus or point at one to see its ways.

import { el, keyed, mark, say, svg } from "./dom.js"
import { search } from "./tables.js"
import { condition, standing } from "./trouble.js"
import { count, rate, share, time } from "./units.js"

const LAST = "\uffff" // below all names
const MOST = 60 // routes: more lines than anybody can follow
const SEEN = 14 // routes that fit on a screen: of more, those whose upstream is worst stand at the top

export function map() {
  const lines = svg("svg", { class: "lines", "aria-hidden": "true" })
  const lists = ["Clients", "Routes", "Upstreams", "Targets"].map((title) => [title, el("ul")])
  const columns = lists.map(([title, list]) => el("section", { "aria-label": title }, el("h2", {}, title), list))
  const board = el("div", { class: "map" }, lines, ...columns)
  const filter = search("Find a route, upstream or target")
  const more = el("p", { class: "muted" })
  const legend = el("p", { class: "muted keys" }, "● well  ▲ in part  ■ out, its way dashed")
  const node = el("div", {}, el("div", { class: "tools" }, filter, legend), board, more)
  let drawn = { nodes: [], links: [] }
  let latest = null
  let pointed = ""

  filter.addEventListener("input", () => latest && update(latest))
  const point = (event) => light(event.target.closest?.(".node")?.dataset.key ?? "")
  for (const name of ["pointerover", "focusin"]) board.addEventListener(name, point)
  for (const name of ["pointerleave", "focusout"]) board.addEventListener(name, () => light(""))
  new ResizeObserver(() => latest && draw()).observe(board)

  function update(state) {
    latest = state
    drawn = plan(state, filter.value.toLowerCase())
    board.classList.toggle("long", drawn.long)
    lists.forEach(([, list], column) => keyed(list, drawn.nodes.filter((each) => each.column === column), (each) => each.key, place))
    const hidden = drawn.hidden + state.more.routes
    say(more, hidden ? `${count(hidden)} more routes are not shown: the busiest and the failing ones are.` : "")
    draw()
    light(pointed)
  }

  function draw() {
    const box = board.getBoundingClientRect()
    if (!box.width) return
    mark(lines, "viewBox", `0 0 ${box.width} ${box.height}`)
    const boxes = new Map([...board.querySelectorAll(".node")].map((each) => [each.dataset.key, each.getBoundingClientRect()]))
    for (const link of drawn.links) link.path = way(boxes.get(link.from), boxes.get(link.to), box)
    keyed(lines, drawn.links.filter((link) => link.path), (link) => link.key, line)
  }

  function light(key) {
    pointed = key
    const ways = key ? reached(drawn.links, key) : null
    for (const each of board.querySelectorAll(".node")) each.classList.toggle("dim", !!ways && !ways.has(each.dataset.key))
    for (const each of lines.children) {
      const on = ways && ways.has(each.dataset.from) && ways.has(each.dataset.to)
      each.classList.toggle("lit", !!on)
      each.classList.toggle("dim", !!ways && !on)
    }
  }
  return { node, update }
}

// What is shown where, and what is joined.
function plan({ routes, upstreams, totals, instance }, wanted) {
  const known = new Map(upstreams.map((each) => [each.name, each]))
  const words = (route) => [route.name, ...route.upstreams, ...route.upstreams.flatMap((name) => known.get(name)?.targets.map((each) => each.url) ?? [])]
  const found = routes.filter((route) => words(route).some((word) => word.toLowerCase().includes(wanted)))
  const shown = found
    .sort((a, b) => (b.error_rate > 0) - (a.error_rate > 0)) // those stay
    .slice(0, MOST)
  const long = shown.length > SEEN
  const order = (a, b) => (long ? rank(known.get(a)) - rank(known.get(b)) : 0) || a.localeCompare(b)
  shown.sort((a, b) => order(a.upstreams[0] ?? LAST, b.upstreams[0] ?? LAST) || a.name.localeCompare(b.name))
  const asked = new Set(shown.flatMap((route) => route.upstreams))
  const below = upstreams
    .filter((each) => asked.has(each.name) || (!wanted && routes.length <= MOST))
    .sort((a, b) => order(a.name, b.name))
  const open = Object.values(instance.listeners).reduce((sum, each) => sum + each, 0)
  const nodes = [
    { key: "clients", column: 0, name: "clients", kind: "plain", word: "", facts: `${rate(totals.rate)} · ${count(open)} open` },
    ...shown.map(ofRoute),
    ...below.map(ofUpstream),
    ...below.flatMap((each) => each.targets.map((target) => ofTarget(each, target))),
  ]
  return { nodes, links: [...linksOf(shown, below)], hidden: found.length - shown.length, long }
}

const rank = (upstream) => (upstream ? ["bad", "warn", "ok"].indexOf(standing(upstream)[0]) : 3)

function ofRoute(route) {
  const kind = route.error_rate >= 0.05 ? "bad" : route.error_rate > 0 ? "warn" : "plain"
  const word = route.error_rate > 0 ? `${share(route.error_rate)} 5xx` : ""
  return { key: `r ${route.name}`, column: 1, name: route.name, kind, word, facts: traffic(route), to: route.upstreams }
}

function ofUpstream(each) {
  const [kind, word] = standing(each)
  const facts = `${traffic(each)}${each.retries ? ` · ${count(each.retries)} retries` : ""}`
  const to = each.targets.map((target) => target.url.replace(SCHEME, ""))
  return { key: `u ${each.name}`, column: 2, name: each.name, kind, word, facts, to }
}

function ofTarget(upstream, target) {
  const [kind, word] = condition(target)
  return { key: `t ${upstream.name} ${target.url}`, column: 3, name: target.url.replace(SCHEME, ""), kind, word, facts: traffic(target) }
}

const SCHEME = /^https?:\/\//

const traffic = (each) => (each.rate ? `${rate(each.rate)} · ${time(each.p99_ms)}` : "idle")

function* linksOf(routes, upstreams) {
  const known = new Set(upstreams.map((each) => each.name))
  for (const route of routes) {
    yield link("clients", `r ${route.name}`, route.rate, route.error_rate >= 0.05 ? "bad" : "")
    for (const name of route.upstreams) if (known.has(name)) yield link(`r ${route.name}`, `u ${name}`, route.rate, "")
  }
  for (const upstream of upstreams)
    for (const target of upstream.targets) {
      const out = condition(target)[0] === "bad"
      yield link(`u ${upstream.name}`, `t ${upstream.name} ${target.url}`, target.rate, out ? "out" : "")
    }
}

const link = (from, to, much, kind) => ({ key: `${from} → ${to}`, from, to, much, kind, path: "" })

function place() {
  const name = el("b")
  const state = el("span", { class: "word" })
  const facts = el("small")
  const to = el("small", { class: "to" })
  const node = el("button", { type: "button", class: "node" }, name, state, facts, to)
  const update = (each) => {
    node.dataset.key = each.key
    node.dataset.kind = each.kind
    node.title = each.name
    say(name, each.name)
    say(state, each.word)
    say(facts, each.facts)
    say(to, each.to ? `→ ${each.to.join(", ") || "answered by the gateway"}` : "")
  }
  return { node: el("li", {}, node), update }
}

function line() {
  const node = svg("path")
  const update = (each) => {
    mark(node, "d", each.path)
    mark(node, "data-from", each.from)
    mark(node, "data-to", each.to)
    mark(node, "data-kind", each.kind)
    node.style.strokeWidth = `${each.much ? Math.min(6, 1.5 + Math.log10(1 + each.much)) : 1}px`
  }
  return { node, update }
}

function way(from, to, box) {
  if (!from || !to) return ""
  const [x1, y1] = [from.right - box.left, from.top + from.height / 2 - box.top]
  const [x2, y2] = [to.left - box.left, to.top + to.height / 2 - box.top]
  const bend = (x2 - x1) / 2
  return `M${x1.toFixed(1)} ${y1.toFixed(1)}C${(x1 + bend).toFixed(1)} ${y1.toFixed(1)} ${(x2 - bend).toFixed(1)} ${y2.toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`
}

// Everything on a way through `key`.
function reached(links, key) {
  const found = new Set([key])
  for (const [near, far] of [["from", "to"], ["to", "from"]]) {
    let edge = [key]
    while (edge.length) {
      edge = links.filter((each) => edge.includes(each[near])).map((each) => each[far]).filter((each) => !found.has(each))
      edge.forEach((each) => found.add(each))
    }
  }
  return found
}
