//! The oracle: random tables, random transactions, readers that join at
//! random times, and at rest what every reader holds is what SELECT says.
//!
//! Tables, statements and shapes come from a seed, which is printed; `SEED`
//! replays it. The interleaving of writers and readers is the machine's.

mod table;
mod value;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::db::Db;
use crate::follower::{Follower, Row};
use crate::wait;
use table::{KEY_COUNT, Table};

/// How long readers may take to see the last change of a load.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(45);
/// Keys of rows that mark a moment of rest.
const FIRST_BARRIER: u64 = 2_000_000;

/// How much is written, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub tables: usize,
    pub writers: usize,
    /// Between two transactions of one writer.
    pub pause: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self { tables: 6, writers: 2, pause: Duration::from_millis(4) }
    }
}

/// Writers, readers and the truth. All end when it is dropped.
#[derive(Debug)]
pub struct Oracle {
    database: String,
    base: String,
    tables: Arc<[Table]>,
    readers: Vec<Follower>,
    rng: StdRng,
    /// One permit a writer; taking all of them is rest.
    gate: Arc<Semaphore>,
    writer_count: u32,
    committed: Arc<AtomicU64>,
    barrier: u64,
    writers: JoinSet<()>,
}

/// The seed of this run: `SEED` if it is set, else a fresh one. Printed, so
/// that a failure can be replayed.
///
/// # Panics
/// When `SEED` is no number.
pub fn seed() -> u64 {
    let given = std::env::var_os("SEED").map(|text| {
        text.to_str().and_then(|text| text.parse().ok()).expect("SEED is a whole number")
    });
    given.unwrap_or_else(rand::random)
}

impl Oracle {
    /// Makes the tables in the database at `database`, fills them a little
    /// and starts the writers. Readers will read from the server at `base`.
    pub async fn start(seed: u64, database: &str, base: &str, load: Load) -> Self {
        eprintln!("SEED={seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tables: Vec<Table> =
            (0..load.tables).map(|index| Table::random(index, &mut rng)).collect();
        tables.extend(["ledger_a", "ledger_b"].map(Table::ledger));
        let db = Db::connect(database).await;
        db.run("CREATE TYPE mood AS ENUM ('glad', 'so-so', 'it''s bad');").await;
        for table in &tables {
            db.run(&table.create()).await;
            if !table.name.starts_with("ledger") {
                let numbers: Vec<u64> = (0..KEY_COUNT / 2).collect();
                db.run(&table.insert(&numbers, &mut rng)).await;
            }
        }
        let tables: Arc<[Table]> = tables.into();
        let gate = Arc::new(Semaphore::new(load.writers));
        let committed = Arc::new(AtomicU64::new(0));
        let mut writers = JoinSet::new();
        for index in 0..load.writers {
            let writer = Writer {
                name: format!("w{index}"),
                database: database.to_owned(),
                tables: Arc::clone(&tables),
                gate: Arc::clone(&gate),
                committed: Arc::clone(&committed),
                pause: load.pause,
                rng: StdRng::seed_from_u64(seed.wrapping_add(1 + index as u64)),
            };
            writers.spawn(writer.run());
        }
        Self {
            database: database.to_owned(),
            base: base.to_owned(),
            tables,
            readers: Vec::new(),
            rng,
            gate,
            writer_count: u32::try_from(load.writers).expect("few writers"),
            committed,
            barrier: FIRST_BARRIER,
            writers,
        }
    }

    /// A reader of a random shape joins.
    pub fn join(&mut self) {
        let table = self.tables.choose(&mut self.rng).expect("a schema has tables");
        let query = table.shape(&mut self.rng);
        self.readers.push(Follower::start(&self.base, query));
    }

    /// A reader of every table joins.
    pub fn join_all(&mut self) {
        for table in self.tables.iter() {
            self.readers.push(Follower::start(&self.base, table.shape(&mut self.rng)));
        }
    }

    pub fn readers(&self) -> &[Follower] {
        &self.readers
    }

    /// Transactions committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Lets the writers commit `count` transactions more.
    ///
    /// # Panics
    /// When a writer gave up.
    pub async fn write(&mut self, count: u64) {
        let target = self.committed() + count;
        let (committed, writers) = (&self.committed, &mut self.writers);
        wait::until("the writers to commit", Duration::from_secs(120), async || {
            if let Some(ended) = writers.try_join_next() {
                panic!("a writer ended: {ended:?}");
            }
            (committed.load(Ordering::Relaxed) >= target).then_some(())
        })
        .await;
    }

    /// Lets the writers commit `count` transactions while `joining` readers
    /// come at random moments.
    pub async fn write_while_joining(&mut self, count: u64, joining: u64) {
        for _ in 0..joining {
            let share = self.rng.random_range(0..=2 * count / joining.max(1));
            self.write(share).await;
            self.join();
        }
        self.write(count / 4).await;
    }

    /// Stops the writers and requires that every reader holds what SELECT
    /// says, twice: a change that came late or doubled would show after the
    /// second write. The writers go on afterwards.
    pub async fn quiesce(&mut self) {
        let gate = Arc::clone(&self.gate);
        let rest = gate.acquire_many(self.writer_count).await.expect("the gate is never closed");
        self.all_hold().await;
        self.barrier += 1;
        let db = Db::connect(&self.database).await;
        for table in self.tables.iter() {
            let insert = if table.name.starts_with("ledger") {
                format!(
                    "INSERT INTO {} (txn, seq, n) VALUES ('barrier-{}', 0, 1);",
                    table.sql_name(),
                    self.barrier
                )
            } else {
                table.insert(&[self.barrier], &mut self.rng)
            };
            db.run(&insert).await;
        }
        self.all_hold().await;
        for reader in &self.readers {
            reader.check();
        }
        drop(rest);
    }

    /// As [`Self::quiesce`], and every reader's log reads the same again.
    pub async fn finish(&mut self) {
        self.quiesce().await;
        for reader in &self.readers {
            reader.check_reread().await;
        }
    }

    async fn all_hold(&self) {
        let db = Db::connect(&self.database).await;
        for reader in &self.readers {
            reader.holds(&truth(&db, reader).await, CATCH_UP_LIMIT).await;
        }
    }

    /// # Panics
    /// When a reader met a 409.
    pub fn check_never_rotated(&self) {
        for reader in &self.readers {
            reader.check_never_rotated();
        }
    }

    /// One line about what was exercised.
    pub fn summary(&self) -> String {
        let views: Vec<_> = self.readers.iter().map(Follower::view).collect();
        format!(
            "{} transactions, {} readers, {} changes read, {} retries, {} chunks read again, {} times 409",
            self.committed(),
            views.len(),
            views.iter().map(|view| view.state.entries().len()).sum::<usize>(),
            views.iter().map(|view| view.retry_count).sum::<u64>(),
            views.iter().map(|view| view.refetch_count).sum::<u64>(),
            views.iter().map(|view| view.rotations.len()).sum::<usize>(),
        )
    }
}

/// What the reader's shape is in the database now.
async fn truth(db: &Db, reader: &Follower) -> Vec<Row> {
    let query = reader.query();
    let columns = match &query.columns {
        None => "*".to_owned(),
        Some(names) => {
            names.iter().map(|name| value::identifier(name)).collect::<Vec<_>>().join(", ")
        }
    };
    db.rows(&format!("SELECT {columns} FROM {}", query.table)).await
}

struct Writer {
    name: String,
    database: String,
    tables: Arc<[Table]>,
    gate: Arc<Semaphore>,
    committed: Arc<AtomicU64>,
    pause: Duration,
    rng: StdRng,
}

impl Writer {
    async fn run(mut self) {
        let mut db = Db::connect(&self.database).await;
        let mut count = 0_u64;
        loop {
            let Ok(permit) = Arc::clone(&self.gate).acquire_owned().await else { return };
            count += 1;
            let name = format!("{}-{count}", self.name);
            let statements = work::transaction(&self.tables, &name, &mut self.rng);
            if write(&db, &statements).await {
                self.committed.fetch_add(1, Ordering::Relaxed);
            } else if db.is_closed() {
                // Postgres went away: whether the transaction was committed is
                // for SELECT to say.
                db = Db::connect(&self.database).await;
            }
            drop(permit);
            wait::pace(self.pause).await;
        }
    }
}

/// Whether the transaction ran to its end. Clashes between writers (equal
/// keys, deadlocks) are rolled back and nothing more.
async fn write(db: &Db, statements: &[String]) -> bool {
    // One statement a round trip lets the two writers interleave.
    for statement in statements {
        if let Err(error) = db.batch_execute(statement).await {
            // Anything but a clash is a defect of the generator.
            let clash = error.code().is_none_or(|code| {
                ["23505", "40P01", "25P02", "57P01", "57P02", "57P03"].contains(&code.code())
            });
            assert!(clash, "{error:?} in {statement}");
            let _ = db.batch_execute("ROLLBACK;").await;
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_work_again() {
        let make = || {
            let mut rng = StdRng::seed_from_u64(7);
            let mut tables: Vec<Table> =
                (0..6).map(|index| Table::random(index, &mut rng)).collect();
            tables.push(Table::ledger("ledger_a"));
            let work: Vec<_> = (0..50)
                .map(|index| work::transaction(&tables, &index.to_string(), &mut rng))
                .collect();
            (format!("{tables:?}"), work)
        };
        assert_eq!(make(), make());
    }

    /// The statements must be good SQL: a writer that meets anything but a
    /// clash with another one ends, and the wait for it fails.
    #[tokio::test]
    async fn the_work_runs_on_postgres() {
        let postgres = crate::Postgres::start(15, &[]).await;
        let load = Load { pause: Duration::ZERO, ..Load::default() };
        let mut oracle = Oracle::start(7, &postgres.url(), "http://127.0.0.1:1", load).await;
        oracle.write(400).await;
        oracle.quiesce().await;
        oracle.write(50).await;
    }

    #[test]
    fn keys_of_different_rows_differ() {
        let mut rng = StdRng::seed_from_u64(1);
        for index in 0..5 {
            let table = Table::random(index, &mut rng);
            let numbers = (0..200).chain([999_999, FIRST_BARRIER + 1, FIRST_BARRIER + 2]);
            let mut keys: Vec<_> = numbers.map(|number| table.key_of(number)).collect();
            let count = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), count, "{table:?}");
        }
    }
}
