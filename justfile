# The whole interface of the repository. `scripts/test` runs all checks without just.

# Lists what there is.
default:
    @just --list

# Formats.
fmt:
    cargo fmt --all

# Lints.
lint:
    scripts/test format lint

# Licences, sources and bans of dependencies, advisories too.
deny:
    cargo deny check

# The documentation of the crates.
doc:
    scripts/test doc

# Tests of the crates, without those of the whole.
test:
    cargo nextest run --workspace --exclude leyden-tests

# Tests of the whole, against real Postgres: all, or those whose names contain the words.
it *words:
    cargo nextest run --package leyden-tests {{words}}

# The oracle alone.
oracle:
    cargo nextest run --package leyden-tests oracle

# kill -9 and the death of every actor.
crash:
    cargo nextest run --package leyden-tests crash kill_actors

# One test with one seed.
seed number name:
    SEED={{number}} cargo nextest run --workspace {{name}}

# The demo page in a real browser.
browser:
    scripts/test browser

# Writes supervisor-tree.md.
tree:
    cargo run --quiet --package leyden -- tree --markdown > supervisor-tree.md

# Writes every generated document.
docs: tree
    cargo run --quiet --package leyden -- settings --markdown > deploy/settings.md

# Figures side by side with Postgres's own tools; see benches/README.md.
bench *words:
    cargo run --release --package leyden-benches -- {{words}}

# Serves the database of DATABASE_URL to everybody.
run *flags:
    cargo run --package leyden -- serve --insecure {{flags}}

# The demo.
demo *flags:
    scripts/demo {{flags}}

# Everything, as CI does.
ci:
    .ci/run
