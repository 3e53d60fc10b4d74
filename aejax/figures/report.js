/* What a report does in a browser: tables sort and fit, the map of codes shows its images, sliders move a code. Without it, the
   page has the same numbers and pictures. */
"use strict"

const number = text => {
  const found = text.replace(/−/g, "-").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i)
  return found ? Number(found[0]) : NaN
}

/* A click on a heading sorts by its column, a second one the other way round. */
function sortable(table) {
  const head = table.tHead && table.tHead.rows[0]
  if (!head || table.tBodies[0].rows.length < 2) return
  for (const cell of [...head.cells]) {
    if (!cell.textContent.trim()) continue
    const button = document.createElement("button")
    button.type = "button"
    button.append(...cell.childNodes)
    cell.append(button)
    button.addEventListener("click", () => {
      const down = cell.getAttribute("aria-sort") === "ascending"
      const order = down ? -1 : 1
      for (const other of head.cells) other.removeAttribute("aria-sort")
      cell.setAttribute("aria-sort", down ? "descending" : "ascending")
      const at = cell.cellIndex
      const key = row => row.cells[at].textContent.trim()
      const numeric = cell.classList.contains("n")
      const compare = (a, b) => {
        const [x, y] = [number(key(a)), number(key(b))]
        if (!numeric || (isNaN(x) && isNaN(y))) return order * key(a).localeCompare(key(b), undefined, { numeric: true })
        return isNaN(x) ? 1 : isNaN(y) ? -1 : order * (x - y) // what has no number is always last
      }
      const body = table.tBodies[0]
      body.append(...[...body.rows].sort(compare))
    })
  }
}

/* A table that is too wide is set in smaller type; if that does not suffice, with its few rows as columns, or row by row, so that
   no column is out of sight. */
function fit(table) {
  const frame = table.parentElement
  const fits = () => frame.scrollWidth <= frame.clientWidth
  table.classList.remove("dense", "turned", "stacked")
  table.style.gridTemplateRows = ""
  if (fits()) return
  table.classList.add("dense")
  if (fits()) return
  if (table.tHead && table.tBodies[0].rows.length <= 8) {
    table.classList.add("turned")
    table.style.gridTemplateRows = `repeat(${table.tHead.rows[0].cells.length}, auto)`
    if (fits()) return
    table.classList.remove("turned")
    table.style.gridTemplateRows = ""
  }
  table.classList.add("stacked")
}

function labeled(table) {
  const head = table.tHead ? [...table.tHead.rows[0].cells] : []
  for (const row of table.tBodies[0].rows)
    for (const cell of row.cells) {
      const heading = head[cell.cellIndex]
      if (heading && cell.cellIndex > 0) cell.dataset.label = [...heading.childNodes].map(n => n.textContent).join(", ")
    }
}

/* One tile of a sheet of images, `ratio` times as high as wide, as the background of an element. */
function showTile(element, { sheet, columns, ratio }, index, rows, width) {
  const [column, row, height] = [index % columns, Math.floor(index / columns), width * ratio]
  element.style.width = `${width}px`
  element.style.height = `${height}px`
  element.style.backgroundImage = `url(${sheet})`
  element.style.backgroundSize = `${columns * width}px ${rows * height}px`
  element.style.backgroundPosition = `${-column * width}px ${-row * height}px`
}

/* The map of codes: the pointer or the arrow keys choose a code, a drag chooses all in a rectangle. */
function explore(map) {
  const images = JSON.parse(map.querySelector("script").textContent)
  const { points, labels } = images
  const rows = Math.ceil(points.length / images.columns)
  const shown = map.querySelector(".chosen"), said = map.querySelector(".said"), plane = map.querySelector(".plane")
  const brush = document.createElement("div"), dot = document.createElement("div")
  brush.className = "brush"
  dot.className = "dot"
  plane.append(brush, dot)
  let current = 0, from = null

  const show = chosen => {
    shown.replaceChildren(...chosen.map((i, place) => {
      const tile = document.createElement("div")
      tile.className = place ? "tile-image" : "tile-image first"
      tile.title = labels ? labels[i] : `example ${i}`
      showTile(tile, images, i, rows, place ? 48 : 72)
      return tile
    }))
    const names = labels ? chosen.map(i => labels[i]) : []
    const counts = [...new Set(names)].map(name => `${names.filter(n => n === name).length} × ${name}`)
    said.textContent = `${chosen.length} examples${counts.length ? ": " + counts.join(", ") : ""}`
  }
  const near = (x, y) => points.map((p, i) => [(p[0] - x) ** 2 + (p[1] - y) ** 2, i]).sort((a, b) => a[0] - b[0]).map(p => p[1])
  const choose = i => {
    current = i
    dot.style.left = `${100 * points[i][0]}%`
    dot.style.top = `${100 * points[i][1]}%`
    dot.hidden = false
    show(near(...points[i]).slice(0, 12))
  }
  const place = event => {
    const box = plane.getBoundingClientRect()
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
  }
  plane.addEventListener("pointerdown", event => { from = place(event); plane.setPointerCapture(event.pointerId) })
  plane.addEventListener("pointermove", event => {
    const to = place(event)
    if (!from) return choose(near(...to)[0])
    const [left, right] = [Math.min(from[0], to[0]), Math.max(from[0], to[0])]
    const [top, bottom] = [Math.min(from[1], to[1]), Math.max(from[1], to[1])]
    Object.assign(brush.style, { left: `${100 * left}%`, top: `${100 * top}%`,
      width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`, display: "block" })
    const inside = points.flatMap((p, i) => p[0] >= left && p[0] <= right && p[1] >= top && p[1] <= bottom ? [i] : [])
    if (inside.length) { dot.hidden = true; show(inside.slice(0, 40)) }
  })
  plane.addEventListener("pointerup", event => {
    const to = place(event)
    if (from && Math.hypot(to[0] - from[0], to[1] - from[1]) < 0.01) { brush.style.display = "none"; choose(near(...to)[0]) }
    from = null
  })
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
  plane.addEventListener("keydown", event => {
    const way = ways[event.key]
    if (!way) return
    event.preventDefault()
    brush.style.display = "none"
    const [x, y] = points[current]
    const ahead = near(x, y).filter(i => {
      const [dx, dy] = [points[i][0] - x, points[i][1] - y]
      const along = dx * way[0] + dy * way[1]
      return along > 1e-6 && along >= Math.abs(dx * way[1] + dy * way[0])
    })
    if (ahead.length) choose(ahead[0])
  })
  choose(0)
}

/* Sliders: each moves one dimension of a code, the others stay at the example's. */
function slide(block) {
  const images = JSON.parse(block.querySelector("script").textContent)
  const { start, columns, values } = images
  const frame = block.querySelector(".decoded"), inputs = [...block.querySelectorAll("input")]
  const show = (row, column) => {
    showTile(frame, images, row * columns + column, inputs.length, 160)
    inputs.forEach((input, i) => {
      if (i !== row) input.value = start[i]
      input.nextElementSibling.textContent = values[i][input.value]
    })
  }
  inputs.forEach((input, row) => input.addEventListener("input", () => show(row, Number(input.value))))
  block.hidden = false
  show(0, start[0])
}

const tables = [...document.querySelectorAll(".scroll > table")]
tables.forEach(table => { labeled(table); sortable(table) })
const fitAll = () => tables.forEach(fit)
document.querySelectorAll("details").forEach(details => details.addEventListener("toggle", fitAll))
document.querySelectorAll(".explore").forEach(explore)
document.querySelectorAll(".sliders").forEach(slide)
window.addEventListener("resize", fitAll)
fitAll()
