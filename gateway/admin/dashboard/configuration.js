// The configuration as built: routes with their stages in order and the reason for each place, and the file as in force.

import { el, keyed, panel, say } from "./dom.js"
import { ask } from "./feed.js"
import { search } from "./tables.js"
import { clock, plain } from "./units.js"

export function configuration() {
  const filter = search("Find a route")
  const hint = el("p", { class: "muted", role: "status" })
  const routes = el("ol", { class: "requests" })
  const text = el("pre", { tabindex: "0", role: "region", "aria-label": "Effective configuration" })
  const whole = el("details", {}, el("summary", {}, "Everything, secrets masked"), text)
  const node = el("div", {}, el("div", { class: "tools" }, filter, hint), panel("Routes as built", routes), panel("Effective configuration", whole))
  let shown = ""
  let asking = false
  let built = []

  filter.addEventListener("input", list)

  function list() {
    const wanted = filter.value.toLowerCase()
    keyed(routes, built.filter((each) => JSON.stringify([each.name, each.match]).toLowerCase().includes(wanted)), (each) => each.key, route)
  }

  async function update({ instance }) {
    if (asking || shown === instance.hash) return
    asking = true
    say(hint, "Loading …")
    try {
      const [as, config] = await Promise.all([ask("api/v1/routes"), ask("api/v1/config")])
      built = as.routes.map((each) => ({ ...each, key: `${config.hash} ${each.name}` }))
      shown = config.hash
      say(text, JSON.stringify(config.config, null, 2))
      say(hint, `${built.length} routes, configuration ${String(shown).slice(0, 12)}, shown since ${clock(new Date())}`)
      list()
    } catch (error) {
      say(hint, `It cannot be shown: ${error.message}`)
    } finally {
      asking = false
    }
  }
  return { node, update }
}

function route(each) {
  const match = each.match ?? {}
  const asked = `${match.methods ? match.methods.join(" ") : "any method"} ${match.host ?? ""}${match.path ?? ""}`
  const to = (each.upstreams ?? []).map((upstream) => upstream.name ?? upstream).join(", ")
  const end = to || (each.redirect && `redirect to ${each.redirect.to}`) || (each.respond && `answers ${each.respond.status}`)
  const details = el(
    "details",
    {},
    el("summary", {}, el("b", { class: "mono" }, each.name), el("span", { class: "asked mono" }, asked), el("span", { class: "why mono" }, plain(end))),
  )
  details.addEventListener("toggle", () => details.children.length === 1 && details.append(inside(each)), { once: true })
  return { node: el("li", {}, details), update: () => {} }
}

// What the stages say is not said twice.
function inside({ key, name, match, stages, body_limit, ...rest }) {
  const facts = Object.entries(rest).filter(([, value]) => value != null && (value.length ?? 1))
  const list = el("dl", { class: "facts" }, ...facts.flatMap(([title, value]) => [el("dt", {}, title.replaceAll("_", " ")), el("dd", {}, written(value))]))
  return el("div", { class: "inside" }, list, el("ol", { class: "stages" }, ...(stages ?? []).map(stage)))
}

function stage({ stage: name, why, part, upstream, ...settings }) {
  const where = [part, upstream].filter(Boolean).join(" of ")
  const said = Object.values(settings).filter((value) => value != null && value !== "").map(written)
  return el(
    "li",
    {},
    el("b", {}, name),
    el("small", {}, where),
    el("span", { class: "mono" }, said.join(" · ")),
    el("small", { class: "muted" }, why ?? ""),
  )
}

// A value in one line.
function written(value) {
  if (Array.isArray(value)) return value.map(written).join(", ")
  if (value && typeof value === "object")
    return Object.entries(value)
      .filter(([, each]) => each != null && each !== "" && (each.length ?? 1))
      .map(([name, each]) => `${name} ${written(each)}`)
      .join(" · ")
  return String(value)
}
