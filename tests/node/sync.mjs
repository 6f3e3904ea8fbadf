// Follows a table with the published client. For every line on stdin it prints
// one line of JSON about what it holds (tests/it/client.rs compares).
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { Shape, ShapeStream } from '@electric-sql/client'

const [url, table] = process.argv.slice(2)
const errors = []
let mustRefetch = 0

const stream = new ShapeStream({
  url: `${url}/v1/shape`,
  params: { table },
  onError: (error) => {
    errors.push(String(error))
  },
})
const shape = new Shape(stream)
shape.subscribe(() => {})
stream.subscribe((messages) => {
  for (const { headers } of messages) {
    if (headers.control === 'must-refetch') mustRefetch += 1
  }
})

const text = (value) => (value === null ? '∅' : String(value))

const state = () => {
  const rows = [...shape.currentRows].sort((a, b) => a.id - b.id)
  const lines = rows.map((row) =>
    [row.id, row.title, row.score, row.done, row.at, row.tags].map(text).join('|'),
  )
  const md5 = createHash('md5').update(lines.join('\n')).digest('hex')
  return { rows: rows.length, md5, mustRefetch, errors }
}

createInterface({ input: process.stdin })
  .on('line', () => console.log(JSON.stringify(state())))
  .on('close', () => process.exit(0))
