//! A reader that follows one shape over raw HTTP, as a client would, and
//! holds everything it is told against the protocol.
//!
//! It shares no code with the server. Network errors and 5xx are retried with
//! the same offset; a 409 is recorded and followed. All that is wrong is kept
//! as a fault, and the test asks for the faults when it is done.

mod message;
mod session;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use message::{Place, Row};
pub use state::State;

use session::Session;

/// Which shape to follow.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// As the `table` parameter wants it, quoted where needed.
    pub table: String,
    pub columns: Option<Vec<String>>,
    pub replica_full: bool,
}

/// A 409 that a reader met.
#[derive(Clone, Debug)]
pub struct Rotation {
    pub handle: Option<String>,
    pub offset: String,
    pub successor: Option<String>,
}

/// What a reader knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub state: State,
    pub handle: Option<String>,
    pub offset: String,
    /// Times the end of the log was reached.
    pub up_to_date_count: u64,
    pub rotations: Vec<Rotation>,
    /// Requests that failed and were sent again.
    pub retry_count: u64,
    /// Closed chunks that were read a second time.
    pub refetch_count: u64,
    /// Faults that are not about one handle's log.
    faults: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    view: Mutex<View>,
    changed: watch::Sender<()>,
}

/// Follows until it is dropped.
#[derive(Debug)]
pub struct Follower {
    query: Query,
    base: String,
    shared: Arc<Shared>,
    /// Owned: dropping the follower ends its task.
    _task: JoinSet<()>,
}

impl Query {
    /// All columns of `table`.
    pub fn table(table: &str) -> Self {
        Self { table: table.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub fn columns(mut self, columns: &[&str]) -> Self {
        self.columns = Some(columns.iter().map(|column| (*column).to_owned()).collect());
        self
    }

    #[must_use]
    pub fn replica_full(mut self) -> Self {
        self.replica_full = true;
        self
    }

    /// The query string that names the shape, without a leading `?`.
    pub fn parameters(&self) -> String {
        let mut text = format!("table={}", encode(&self.table));
        if let Some(columns) = &self.columns {
            let quoted: Vec<String> =
                columns.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
            text.push_str("&columns=");
            text.push_str(&encode(&quoted.join(",")));
        }
        if self.replica_full {
            text.push_str("&replica=full");
        }
        text
    }
}

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl View {
    fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    /// All that was wrong so far.
    pub fn faults(&self) -> Vec<String> {
        self.faults.iter().chain(self.state.faults()).cloned().collect()
    }

    /// Whether the rows are exactly `expected`, else what differs.
    ///
    /// # Errors
    /// The rows on one side only.
    pub fn compare(&self, expected: &[Row]) -> Result<(), String> {
        let mut surplus: BTreeMap<Row, i64> = BTreeMap::new();
        for row in self.state.rows() {
            *surplus.entry(row).or_default() += 1;
        }
        for row in expected {
            *surplus.entry(row.clone()).or_default() -= 1;
        }
        surplus.retain(|_, count| *count != 0);
        if surplus.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = surplus
            .iter()
            .take(6)
            .map(|(row, count)| {
                let side = if *count > 0 { "only read" } else { "only in the table" };
                format!("{side} ({}): {}", count.abs(), shorten(row))
            })
            .collect();
        Err(format!("{} rows differ:\n  {}", surplus.len(), shown.join("\n  ")))
    }
}

fn shorten(row: &Row) -> String {
    let fields = row.iter().map(|(name, text)| {
        let text = text.as_deref().unwrap_or("NULL");
        format!("{name}={}", text.chars().take(60).collect::<String>())
    });
    fields.collect::<Vec<_>>().join(" ")
}

impl Follower {
    /// Starts to follow `query` at the server at `base`, from the beginning.
    pub fn start(base: &str, query: Query) -> Self {
        let (changed, _) = watch::channel(());
        let shared = Arc::new(Shared { view: Mutex::default(), changed });
        let mut task = JoinSet::new();
        task.spawn(Session::new(base, query.clone(), Arc::clone(&shared)).run());
        Self { query, base: base.to_owned(), shared, _task: task }
    }

    pub fn query(&self) -> &Query {
        &self.query
    }

    /// A copy of what it knows.
    pub fn view(&self) -> View {
        self.shared.view().clone()
    }

    /// Waits until what it knows satisfies `condition`.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&View) -> Option<T>,
    ) -> T {
        let mut changed = self.shared.changed.subscribe();
        let reached = async {
            loop {
                // A lock held for one look only: the session needs it too.
                if let Some(value) = condition(&self.shared.view()) {
                    return value;
                }
                // What was wrong once will not come right.
                self.check();
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout(limit, reached).await {
            Ok(value) => value,
            Err(_) => {
                let view = self.view();
                panic!(
                    "{} waited {limit:?} in vain for {what}; at {} of {:?}, {} retries, faults {:#?}",
                    self.query.parameters(),
                    view.offset,
                    view.handle,
                    view.retry_count,
                    view.faults()
                );
            }
        }
    }

    /// Waits until the end of the log has been reached once.
    pub async fn synced(&self) {
        let limit = Duration::from_secs(30);
        self.until("its first up-to-date", limit, |view| (view.up_to_date_count > 0).then_some(()))
            .await;
    }

    /// Waits until it holds exactly `expected`.
    ///
    /// # Panics
    /// With the difference, when that takes longer than `limit`.
    pub async fn holds(&self, expected: &[Row], limit: Duration) {
        let mut difference = String::new();
        let mut equal = |view: &View| match view.compare(expected) {
            Ok(()) => Some(()),
            Err(text) => {
                difference = text;
                None
            }
        };
        let waited = self.until("the table's rows", Duration::MAX, &mut equal);
        if tokio::time::timeout(limit, waited).await.is_err() {
            let view = self.view();
            panic!(
                "{} at {} of {:?}: {difference}\nretries {}, faults {:#?}",
                self.query.parameters(),
                view.offset,
                view.handle,
                view.retry_count,
                view.faults()
            );
        }
    }

    /// Fails the test if anything was wrong.
    ///
    /// # Panics
    /// With the faults.
    pub fn check(&self) {
        let faults = self.shared.view().faults();
        assert!(faults.is_empty(), "{}: {faults:#?}", self.query.parameters());
    }

    /// Fails the test if a 409 was met.
    ///
    /// # Panics
    /// With the rotations.
    pub fn check_never_rotated(&self) {
        let rotations = self.shared.view().rotations.clone();
        assert!(rotations.is_empty(), "{}: {rotations:#?}", self.query.parameters());
    }

    /// Reads the whole log again from its beginning and compares every change
    /// with what was read while it grew.
    ///
    /// # Panics
    /// When a change has other bytes, or is missing.
    pub async fn check_reread(&self) {
        let known = self.view();
        let again = Self::start(&self.base, self.query.clone());
        let last = known.state.entries().last_key_value().map(|(place, _)| *place);
        let view = again
            .until("the log's end on a second reading", Duration::from_secs(60), |view| {
                let end = view.state.entries().last_key_value().map(|(place, _)| *place);
                (view.up_to_date_count > 0 && end >= last).then(|| view.clone())
            })
            .await;
        again.check();
        if view.handle != known.handle {
            panic!("{}: {:?} became {:?}", self.query.parameters(), known.handle, view.handle);
        }
        for (place, bytes) in known.state.entries() {
            assert_eq!(
                view.state.entries().get(place),
                Some(bytes),
                "{}: change {place:?} differs on a second reading",
                self.query.parameters()
            );
        }
    }
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no one panics with the view locked")
    }
}
