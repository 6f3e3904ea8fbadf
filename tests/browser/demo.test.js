// What a person sees who runs `leyden demo`: rows change by themselves, and an
// actor that is killed comes back while they go on changing.
//
// LEYDEN_BINARY names the program, LEYDEN_BROWSER the browser.

import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { after, before, test } from "node:test"
import { chromium } from "playwright-core"

const BINARY = process.env.LEYDEN_BINARY ?? new URL("../../target/debug/leyden", import.meta.url).pathname
const BROWSER = process.env.LEYDEN_BROWSER ?? "/usr/bin/chromium"
const LIMIT = { timeout: 20_000 }
// The first start fetches the client, and Postgres where there is none.
const START_LIMIT_MS = 120_000

let demo, said, url, folder, browser, page
const problems = []

before(async () => {
  assert.ok(existsSync(BINARY), `${BINARY} is not there: cargo build -p leyden`)
  demo = spawn(BINARY, ["demo", "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] })
  said = ""
  await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no page after ${START_LIMIT_MS} ms: ${said}`)), START_LIMIT_MS)
    demo.once("exit", (code) => reject(new Error(`the demo ended with ${code}: ${said}`)))
    demo.stdout.on("data", (chunk) => {
      said += chunk
      url = said.match(/http:\/\/localhost:\d+\//)?.[0]
      if (url) resolve(clearTimeout(late))
    })
  })
  folder = said.match(/ in (\S+), port/)[1]
  browser = await chromium.launch({
    executablePath: BROWSER,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  })
  page = await browser.newPage({ viewport: { width: 1360, height: 1000 } })
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) problems.push(`asks for ${request.url()}`)
  })
  await page.goto(url)
})

after(async () => {
  await browser?.close()
  demo?.kill("SIGKILL")
})

const rows = () => page.locator("#orders tbody").innerText()

/** Waits until the table shows something else than `before`. */
const changes = (before) =>
  page.waitForFunction((before) => document.querySelector("#orders tbody").innerText !== before, before, LIMIT)

const facts = (path) =>
  page.evaluate(async (path) => {
    const tree = await (await fetch("/demo/tree")).json()
    return tree.nodes.find((node) => node.path === path)
  }, path)

test("rows appear and change by themselves", async () => {
  await page.waitForSelector("#orders tbody tr", LIMIT)
  await page.waitForSelector("#menu li", LIMIT)
  assert.equal(await page.locator("#menu li").count(), 12)
  for (let change = 0; change < 3; change += 1) await changes(await rows())
  await page.waitForSelector("#orders tr.changed", LIMIT)
  if (process.env.LEYDEN_SCREENSHOTS) await page.screenshot({ path: `${process.env.LEYDEN_SCREENSHOTS}/demo.png` })
})

for (const path of ["store/journal", "postgres/leader/replication", "shapes/registry", "edge/listener", "postgres"]) {
  test(`${path} is killed by its button and comes back`, async () => {
    const before = await facts(path)
    await page.locator(`#tree li[data-path="${path}"] button`).click()
    await page.waitForFunction(
      async ([path, generation]) => {
        const reply = await fetch("/demo/tree").catch(() => undefined)
        const node = (await reply?.json())?.nodes.find((node) => node.path === path)
        return node?.state === "running" && node.generation > generation
      },
      [path, before.generation],
      LIMIT
    )
    await page.waitForFunction(
      (path) => document.querySelector(`#tree li[data-path="${path}"] .restarts`).textContent.startsWith("↻"),
      path,
      LIMIT
    )
    await changes(await rows())
  })
}

test("every process is supervised as supervisor-tree.md says", async () => {
  const cells = (line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", ""))
  const file = readFileSync(new URL("../../supervisor-tree.md", import.meta.url), "utf8")
  const written = new Map(file.split("\n").filter((line) => line.startsWith("| `")).map((line) => [cells(line)[0], cells(line)]))
  const tree = await (await fetch(`${url}demo/tree`)).json()
  const kinds = new Set()
  for (const node of tree.nodes.filter((node) => node.depth > 0)) {
    const path = node.path.replace(/\/\d+$/, "/<n>").replace(/\/\d+-\d+$/, "/<handle>")
    const [, , , restart, shutdown] = written.get(path) ?? assert.fail(`${node.path} is not in supervisor-tree.md`)
    assert.deepEqual([path, node.restart, node.shutdown], [path, restart, shutdown])
    kinds.add(path)
  }
  assert.ok(kinds.has("shapes/consumers/<handle>") && kinds.has("edge/acceptors/<n>"))
})

test("the page needs nothing from elsewhere and has no errors", () => {
  assert.deepEqual(problems, [])
})

test("SIGTERM ends it and removes everything", async () => {
  await browser.close()
  const ended = new Promise((resolve) => demo.once("exit", (code, signal) => resolve({ code, signal })))
  demo.kill("SIGTERM")
  assert.deepEqual(await ended, { code: 0, signal: null })
  assert.ok(!existsSync(folder), `${folder} is still there`)
})
