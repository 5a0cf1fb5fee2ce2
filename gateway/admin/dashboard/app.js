// The dashboard: listens to the live feed, and shows each state in the view that the address names (#routes).

import { History } from "./charts.js"
import { checks } from "./checks.js"
import { configuration } from "./configuration.js"
import { dress, el, mark, say } from "./dom.js"
import { listen, token } from "./feed.js"
import { map } from "./map.js"
import { overview } from "./overview.js"
import { problems } from "./problems.js"
import { consumers, routes } from "./tables.js"
import { rate, share, since, time } from "./units.js"

const STALE = 3500 // milliseconds without a state after which what is shown is old

const history = new History()
const views = [
  ["overview", "Overview", overview(history)],
  ["routes", "Routes", routes(history)],
  ["map", "Map", map()],
  ["consumers", "Consumers", consumers(history)],
  ["problems", "Problems", problems()],
  ["checks", "Checks", checks()],
  ["configuration", "Configuration", configuration()],
].map(([name, title, view]) => ({ name, title, view }))

const part = (id) => document.getElementById(id)
const main = part("main")
const links = views.map(({ name, title }, index) =>
  el("a", { href: `#${name}`, "aria-keyshortcuts": String(index + 1) }, el("kbd", { "aria-hidden": "true" }, String(index + 1)), title),
)
let current = views[0]
let latest = null
let heardAt = 0
let waiting = 0

part("views").append(...links)
main.append(...views.map(({ name, title, view }) => el("section", { id: `view-${name}`, "aria-label": title, hidden: true }, view.node)))

const figures = new Map(
  ["requests", "errors", "p99", "workers", "up"].map((name) => {
    const value = el("dd", {}, "–")
    part("figures").append(el("div", {}, el("dt", {}, name), value))
    return [name, value]
  }),
)

function go() {
  current = views.find(({ name }) => `#${name}` === location.hash) ?? views[0]
  views.forEach((each, index) => {
    part(`view-${each.name}`).hidden = each !== current
    if (each === current) {
      links[index].setAttribute("aria-current", "page")
      links[index].scrollIntoView({ block: "nearest", inline: "nearest" })
    } else links[index].removeAttribute("aria-current")
  })
  if (latest) current.view.update(latest)
}

function heard(state) {
  heardAt = Date.now()
  latest = state
  history.add(heardAt, points(state))
  clearInterval(waiting)
  document.body.classList.remove("stale")
  notice("")
  header(state)
  current.view.update(state)
}

// What the charts remember of a state.
function points({ totals, routes, consumers }) {
  const values = new Map([
    ["rate", totals.rate],
    ["errors", totals.rate * totals.error_rate],
    ["p50", totals.p50_ms],
    ["p95", totals.p95_ms],
    ["p99", totals.p99_ms],
  ])
  for (const route of routes) {
    values.set(`route rate ${route.name}`, route.rate)
    values.set(`route errors ${route.name}`, route.rate * route.error_rate)
    values.set(`route p99 ${route.name}`, route.p99_ms)
  }
  for (const consumer of consumers) values.set(`consumer ${consumer.name}`, consumer.rate)
  return values
}

function header({ instance, totals }) {
  if (instance.ready) dress(part("ready"), "ok", "Ready")
  else dress(part("ready"), "bad", `Not ready: ${instance.reasons.join("; ")}`)
  say(part("version"), instance.version)
  say(figures.get("requests"), rate(totals.rate))
  say(figures.get("errors"), share(totals.error_rate))
  mark(figures.get("errors"), "class", totals.error_rate > 0 ? "bad" : "")
  say(figures.get("p99"), time(totals.p99_ms))
  say(figures.get("workers"), `${instance.workers.ready} of ${instance.workers.configured}`)
  say(figures.get("up"), since(instance.started))
  document.title = `${instance.ready ? "" : "(!) "}${rate(totals.rate)} · gateway`
}

// What changes with every second is not read out.
function notice(why, when = "") {
  part("notice").hidden = !why
  say(part("why"), why)
  say(part("when"), when)
}

function lost(wait, why) {
  document.body.classList.add("stale")
  const ends = Date.now() + wait
  const tell = () => {
    const left = Math.max(0, Math.ceil((ends - Date.now()) / 1000))
    const old = heardAt ? `What is shown is ${since(heardAt)} old.` : ""
    notice(why, `${old} ${left ? `Trying again in ${left} s.` : "Trying again …"}`)
  }
  clearInterval(waiting)
  waiting = setInterval(tell, 1000)
  dress(part("ready"), "warn", "Not connected")
  tell()
}

// Asks for the token, until one was given.
function locked() {
  clearInterval(waiting)
  notice("")
  document.body.classList.toggle("stale", heardAt > 0)
  dress(part("ready"), "warn", "Locked")
  if (token.get()) say(part("ask-why"), "That was not the right one, or it has changed.")
  part("ask").showModal()
  part("token").focus()
  return new Promise((done) => {
    part("ask-form").onsubmit = (event) => {
      event.preventDefault()
      token.set(part("token").value)
      part("token").value = ""
      part("ask").close()
      done()
    }
  })
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || part("ask").open) return
  const at = links.indexOf(document.activeElement)
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
  if (at >= 0 && step) {
    const next = links[(at + step + links.length) % links.length]
    next.focus()
    location.hash = next.hash
    event.preventDefault()
  } else if (!event.target.closest("input, select, textarea")) {
    if (event.key === "/") {
      const filter = part(`view-${current.name}`).querySelector("input[type=search]")
      filter?.focus()
      if (filter) event.preventDefault()
    } else if (views[event.key - 1]) location.hash = views[event.key - 1].name
  }
}

part("skip").addEventListener("click", (event) => {
  event.preventDefault() // the address names the view
  main.focus()
})
part("ask").addEventListener("cancel", (event) => event.preventDefault())
addEventListener("hashchange", go)
addEventListener("keydown", pressed)
setInterval(() => {
  if (heardAt && Date.now() - heardAt > STALE && !document.body.classList.contains("stale")) {
    document.body.classList.add("stale")
    notice("No news for some seconds: what is shown is old.")
  }
}, 1000)

go()
listen({ heard, lost, locked })
