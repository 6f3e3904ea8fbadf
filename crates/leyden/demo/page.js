// The page of `leyden demo`: two shapes in tables, and the supervision tree.
import { Shape, ShapeStream } from "/demo/client.mjs"

const POLL_MS = 1000
// After a kill, so that the moment of being down is seen.
const POLL_SOON_MS = 60
const SHOWN_MAX = 24

const element = (id) => document.getElementById(id)
const make = (name, className, text) => {
  const made = document.createElement(name)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}
const flash = (node) => {
  node.classList.remove("changed")
  void node.offsetWidth // Restarts the animation of a row that changes again.
  node.classList.add("changed")
}
const age = (ms) => {
  const s = Math.max(0, Math.floor(ms / 1000))
  if (s < 60) return `${s} s`
  return s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`
}

// ---- Shapes

const shape = (table) => {
  const url = new URL("/v1/shape", location.href).href
  const stream = new ShapeStream({ url, params: { table }, onError: () => ({}) })
  return new Shape(stream)
}

/** Calls `show` with the rows and the ids of those that differ from last time. */
const follow = (table, show) => {
  let before
  shape(table).subscribe(({ rows }) => {
    const now = new Map(rows.map((row) => [String(row.id), row]))
    const differs = (id, row) => {
      const old = before.get(id)
      return !old || Object.keys(row).some((name) => row[name] !== old[name])
    }
    const changed = new Set()
    if (before) for (const [id, row] of now) if (differs(id, row)) changed.add(id)
    const gone = before ? [...before.keys()].filter((id) => !now.has(id)).length : 0
    before = now
    show(rows, changed, gone)
  })
}

let changeCount = 0
let delays = []
const when = (text) => Date.parse(text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"))

follow("orders", (rows, changed, gone) => {
  changeCount += changed.size + gone
  const body = element("orders").tBodies[0]
  const kept = new Map([...body.rows].map((row) => [row.dataset.id, row]))
  const shown = rows.toSorted((a, b) => (a.id < b.id ? 1 : -1)).slice(0, SHOWN_MAX)
  for (const [index, order] of shown.entries()) {
    const id = String(order.id)
    const row = kept.get(id) ?? emptyRow(id)
    kept.delete(id)
    fill(row, order)
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null)
    if (changed.has(id)) {
      flash(row)
      delays = [...delays.slice(-19), Date.now() - when(order.updated_at)]
    }
  }
  for (const row of kept.values()) row.remove()
  showFacts(rows.length)
})

const emptyRow = (id) => {
  const row = make("tr")
  row.dataset.id = id
  for (const kind of ["number", "", "", "number", "", "number"]) row.append(make("td", kind))
  row.cells[4].append(make("span", "status"))
  return row
}

const fill = (row, order) => {
  const [id, customer, summary, total, status, since] = row.cells
  id.textContent = order.id
  customer.textContent = order.customer
  summary.textContent = order.summary
  summary.title = order.summary
  total.textContent = order.total
  status.firstChild.textContent = order.status
  status.firstChild.dataset.status = order.status
  row.dataset.status = order.status
  since.dataset.since = when(order.ordered_at)
  since.textContent = age(Date.now() - since.dataset.since)
}

const showFacts = (count) => {
  const sorted = delays.toSorted((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)]
  // Both clocks are this machine's, so that the difference means something.
  const delay = median === undefined ? "" : `, ${Math.max(1, median)} ms from write to page`
  element("facts").textContent = `${count} orders, ${changeCount} changes${delay}`
}

follow("menu", (rows, changed) => {
  const list = element("menu")
  const items = rows.toSorted((a, b) => a.id - b.id).map((item) => {
    const line = make("li", item.available ? "" : "out")
    line.append(make("span", "", item.name), make("span", "", item.price))
    if (changed.has(String(item.id))) line.classList.add("changed")
    return line
  })
  list.replaceChildren(...items)
})

setInterval(() => {
  for (const cell of document.querySelectorAll("[data-since]")) {
    cell.textContent = age(Date.now() - cell.dataset.since)
  }
}, 1000)

// ---- Supervision tree

let lives = new Map()
let killed // What was killed last, until it is back.
let timer

const poll = async () => {
  clearTimeout(timer)
  let is_up = false
  try {
    const reply = await fetch("/demo/tree", { signal: AbortSignal.timeout(2000) })
    if (reply.ok) {
      showTree((await reply.json()).nodes)
      is_up = true
    }
  } catch {
    // The acceptor that would have answered may be the one that was killed.
  }
  const link = element("link")
  link.dataset.state = is_up ? "live" : "lost"
  link.textContent = is_up ? "live" : "waiting for the server"
  timer = setTimeout(poll, killed ? POLL_SOON_MS : POLL_MS)
}

const showTree = (nodes) => {
  const list = element("tree")
  const lines = new Map([...list.children].map((line) => [line.dataset.path, line]))
  const now = new Map()
  for (const [index, node] of nodes.entries()) {
    const line = lines.get(node.path) ?? emptyLine(node)
    lines.delete(node.path)
    fillLine(line, node)
    if (list.children[index] !== line) list.insertBefore(line, list.children[index] ?? null)
    now.set(node.path, node.generation)
    const before = lives.get(node.path)
    if (before !== undefined && before < node.generation) flash(line)
  }
  for (const line of lines.values()) line.remove()
  lives = now
  const restarts = nodes.reduce((sum, node) => sum + node.restarts_total, 0)
  element("tree-facts").textContent = `${nodes.length} processes, ${restarts} restarts`
  tellNews(nodes)
}

const emptyLine = (node) => {
  const line = make("li")
  line.dataset.path = node.path
  line.dataset.kind = node.kind
  line.style.setProperty("--depth", node.depth)
  const kill = make("button", "", "kill")
  kill.ariaLabel = `kill ${node.path}`
  kill.onclick = () => killNode(node.path)
  line.append(make("span", "name", node.id), make("span", "restarts"), make("span", "age"), kill)
  return line
}

const fillLine = (line, node) => {
  const [, restarts, uptime] = line.children
  line.dataset.state = node.state
  restarts.textContent = node.restarts_total ? `↻ ${node.restarts_total}` : ""
  uptime.textContent = node.state === "running" ? age(node.uptime_ms) : node.state
  const rule = node.strategy ? `${node.strategy}, ${node.intensity}` : node.kind
  const last = node.last_exit ? `\nlast exit: ${node.last_exit.reason}` : ""
  line.title = `${node.path}\n${rule}, ${node.restart}, shutdown ${node.shutdown}\n${node.state}, life ${node.generation}${last}`
}

const killNode = async (path) => {
  killed = { path, life: lives.get(path), since: performance.now() }
  element("news").textContent = `${path} killed …`
  try {
    await fetch(`/demo/kill?path=${encodeURIComponent(path)}`, { method: "POST" })
  } catch {
    // As above: our own connection may have gone with it.
  }
  poll()
}

const tellNews = (nodes) => {
  if (!killed) return
  const node = nodes.find((node) => node.path === killed.path)
  const ms = Math.round(performance.now() - killed.since)
  if (node?.state === "running" && node.generation > killed.life) {
    element("news").textContent = `${killed.path} was killed and runs again, seen ${ms} ms later.`
    killed = undefined
  } else if (!node || ms > 15000) {
    element("news").textContent = `${killed.path} was killed and is gone; it lives only as long as its work.`
    killed = undefined
  }
}

poll()
