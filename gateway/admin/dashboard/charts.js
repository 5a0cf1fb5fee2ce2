// Small charts of the last minutes, at most five, which are kept in the page alone. Drawn as SVG, one point a second.

import { el, mark, say, svg } from "./dom.js"

const KEPT = 300
const SPANS = [60, 120, KEPT] // seconds: a page that was just opened would show nothing but emptiness

// Series by name; a second without a state is a gap.
export class History {
  #series = new Map()
  #last = 0
  #seen = 0
  span = SPANS[0] // seconds that the charts are about

  add(now, values) {
    const missed = this.#last ? Math.min(KEPT, Math.max(0, Math.round((now - this.#last) / 1000) - 1)) : 0
    this.#last = now
    this.#seen = Math.min(KEPT, this.#seen + missed + 1)
    this.span = SPANS.find((span) => span >= this.#seen)
    for (const name of values.keys()) if (!this.#series.has(name)) this.#series.set(name, [])
    for (const [name, points] of this.#series) {
      for (let gap = 0; gap < missed; gap++) points.push(null)
      points.push(values.get(name) ?? null)
      points.splice(0, Math.max(0, points.length - KEPT))
      if (!values.has(name) && points.every((point) => point == null)) this.#series.delete(name)
    }
  }

  of(name) {
    return this.#series.get(name) ?? []
  }
}

// A line without axes. `update` takes series of points, the first of them filled below.
export function sparkline(names, width = 120, height = 26) {
  const paths = names.map((name) => svg("path", { class: `line ${name}` }))
  const area = svg("path", { class: `area ${names[0]}` })
  const node = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    area,
    ...paths,
  )
  const update = (series, span, top = highest(series)) => {
    // Errors that there were not are no line on the ground.
    series.forEach((points, index) => mark(paths[index], "d", points.some(Boolean) ? line(points, top, width, height, span) : ""))
    mark(area, "d", filled(series[0], top, width, height, span))
  }
  return { node, update }
}

// A chart with a scale and a legend, which tells the values under the pointer. A series: {name, label}.
export function chart(title, series, format) {
  const values = series.map(() => el("b"))
  const legend = el(
    "ul",
    { class: "legend" },
    ...series.map((each, index) => el("li", {}, el("i", { class: `key ${each.name}` }), `${each.label} `, values[index])),
  )
  const moment = el("span", { class: "muted" })
  const scale = el("span", { class: "scale muted" })
  const drawn = sparkline(series.map((each) => each.name), 600, 120)
  const begin = el("span", { class: "axis muted" })
  const hair = el("span", { class: "hair", hidden: true })
  const plot = el("div", { class: "plot" }, drawn.node, scale, hair, begin, el("span", { class: "axis now muted" }, "now"))
  const node = el("figure", { class: "panel chart" }, el("figcaption", {}, el("h2", {}, title), moment), plot, legend)
  let shown = []
  let seconds = KEPT
  let under = null

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect()
    under = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))
    legends()
  })
  plot.addEventListener("pointerleave", () => {
    under = null
    legends()
  })

  function legends() {
    const ago = under == null ? 0 : Math.round((1 - under) * (seconds - 1))
    shown.forEach((points, index) => say(values[index], format(points[points.length - 1 - ago])))
    say(moment, under == null ? "" : `${ago} s ago`)
    hair.hidden = under == null
    if (under != null) hair.style.left = `${under * 100}%`
  }

  function update(given, span) {
    shown = given
    seconds = span
    const top = highest(given)
    drawn.update(given, span, top)
    say(begin, `${span / 60} min ago`)
    say(scale, top > 0 ? format(top) : "")
    legends()
  }
  return { node, update }
}

function highest(series) {
  const most = Math.max(0, ...series.flat().filter((point) => point != null))
  if (most === 0) return 0
  const power = 10 ** Math.floor(Math.log10(most))
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most)
}

function places(points, top, width, height, span) {
  const step = width / (span - 1)
  const first = span - points.length
  return points.map((point, index) => {
    const y = height - 1 - (top ? (point / top) * (height - 3) : 0)
    return point == null ? null : [((first + index) * step).toFixed(1), y.toFixed(1)]
  })
}

function line(points, ...box) {
  let drawing = false
  let path = ""
  for (const place of places(points, ...box)) {
    if (place) path += `${drawing ? "L" : "M"}${place[0]} ${place[1]}`
    drawing = place != null
  }
  return path
}

function filled(points, top, width, height, span) {
  let path = ""
  let last = null
  for (const place of places(points, top, width, height, span)) {
    if (place) path += last ? `L${place[0]} ${place[1]}` : `M${place[0]} ${height}L${place[0]} ${place[1]}`
    else if (last) path += `L${last[0]} ${height}Z`
    last = place
  }
  return last ? `${path}L${last[0]} ${height}Z` : path
}
