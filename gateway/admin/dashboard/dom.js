// Builds and updates the page. Text goes in as text nodes only: nothing that clients wrote can become markup.

export function el(tag, attributes = {}, ...children) {
  return dressed(document.createElement(tag), attributes, children)
}

export function svg(tag, attributes = {}, ...children) {
  return dressed(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children)
}

function dressed(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener)
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value)
  }
  made.append(...children)
  return made
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

const kept = new WeakMap()

// The children of `parent` are these items, each with a node of its own that stays as long as its key does.
// While one of them has the focus the order stays, too: a node that moves would lose it.
export function keyed(parent, items, keyOf, make) {
  if (!kept.has(parent)) kept.set(parent, new Map())
  const known = kept.get(parent)
  const wanted = new Map(items.map((item) => [keyOf(item), item]))
  let order = [...wanted.keys()]
  if (parent.contains(document.activeElement)) {
    const shown = [...known.keys()].filter((key) => wanted.has(key))
    order = [...shown, ...order.filter((key) => !known.has(key))]
  }
  for (const [key, row] of known) {
    if (!wanted.has(key)) {
      row.node.remove()
      known.delete(key)
    }
  }
  let place = parent.firstElementChild
  const rows = order.map((key) => [key, known.get(key) ?? make(wanted.get(key))])
  known.clear()
  for (const [key, row] of rows) {
    known.set(key, row)
    row.update(wanted.get(key))
    if (row.node === place) place = place.nextElementSibling
    else parent.insertBefore(row.node, place)
  }
}

// A titled part of a view.
export function panel(title, ...children) {
  return el("section", { class: "panel", "aria-label": title }, el("h2", {}, title), ...children)
}

// What a list says when it has nothing to show.
export function empty(text = "Nothing yet.") {
  return el("p", { class: "muted empty", hidden: true }, text)
}

export function badge(kind, text) {
  return el("span", { class: `badge ${kind}` }, text)
}

export function dress(node, kind, text) {
  mark(node, "class", `badge ${kind}`)
  say(node, text)
}

let tables = 0

// A table that can be sorted. A column: {label, text(item)} or {label, make() -> {node, update(item)}}; with `by(item)`
// it can be sorted by that; `wide` columns are left out on narrow screens, `number` ones stand to the right.
export function table(caption, columns, keyOf, { sorted = null, nothing } = {}) {
  const title = `table-${++tables}`
  const heads = columns.map((column, index) => head(column, () => sort(index)))
  const body = el("tbody")
  const none = empty(nothing)
  const top = el("thead", {}, el("tr", {}, ...heads))
  const whole = el("table", {}, el("caption", { id: title }, caption), top, body)
  const node = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": title }, whole, none)
  let items = []
  let order = sorted ?? { index: -1, down: true }

  function sort(index) {
    order = { index, down: order.index === index ? !order.down : !!columns[index].number }
    update(items)
  }

  function update(given) {
    items = given
    heads.forEach((each, index) => {
      if (columns[index].by)
        mark(each, "aria-sort", index !== order.index ? "none" : order.down ? "descending" : "ascending")
    })
    keyed(body, arranged(items, columns[order.index]?.by, order.down), keyOf, () => row(columns))
    none.hidden = items.length > 0
    top.hidden = items.length === 0
  }
  return { node, update }
}

function head(column, sort) {
  const kind = styled(column)
  if (!column.by) return el("th", { scope: "col", class: kind }, column.label)
  return el("th", { scope: "col", class: kind }, el("button", { type: "button", on: { click: sort } }, column.label))
}

function row(columns) {
  const cells = columns.map((column, index) => {
    const made = column.make?.()
    const cell = el(index ? "td" : "th", { scope: index ? null : "row", class: styled(column) }, ...(made ? [made.node] : []))
    return { node: cell, update: made ? made.update : (item) => say(cell, column.text(item)) }
  })
  return {
    node: el("tr", {}, ...cells.map((cell) => cell.node)),
    update: (item) => cells.forEach((cell) => cell.update(item)),
  }
}

function styled(column) {
  return [column.number && "number", column.wide && "wide", column.mono && "mono"].filter(Boolean).join(" ")
}

function arranged(items, by, down) {
  if (!by) return items
  const value = (item) => by(item) ?? -Infinity
  const compared = (a, b) => (typeof a === "string" ? a.localeCompare(String(b)) : a < b ? -1 : a > b ? 1 : 0)
  return [...items].sort((a, b) => (down ? -1 : 1) * compared(value(a), value(b)))
}
