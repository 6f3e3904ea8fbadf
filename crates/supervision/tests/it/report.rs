//! What the log says about a tree.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use supervision::Strategy::OneForOne;
use supervision::{Intensity, start, supervisor};
use tracing::subscriber::DefaultGuard;

use crate::probe::{Diary, MANY, Message, Probe, SECOND, until_running};

#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn record() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn events(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The reports of supervisors: level, context, actor, reason.
    fn reports(&self) -> Vec<String> {
        let is_report = |event: &Value| event["fields"]["message"] == "supervisor report";
        self.events()
            .iter()
            .filter(|event| is_report(event))
            .map(|event| {
                let fields = &event["fields"];
                let text = |key: &str| fields[key].as_str().unwrap().to_owned();
                assert!(fields["restarts"].is_u64(), "{event}");
                let level = event["level"].as_str().unwrap();
                format!("{level} {} {}: {}", text("context"), text("actor"), text("reason"))
            })
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn four_reports_tell_what_happened() {
    let (lines, _guard) = Lines::record();
    let diary = Diary::default();
    let [a, mut b] = ["a", "b"].map(|id| Probe::new(id, &diary));
    b.stop_takes = 10 * SECOND;
    let inner = supervisor("inner", OneForOne, Intensity::new(2, SECOND), [a.node(), b.node()]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    a.fail_next_starts(1);
    a.send(Message::Fail("boom"));
    until_running(&root, "inner/a", 3).await;
    root.kill("inner/a").unwrap();
    until_running(&root, "inner", 2).await;
    assert_eq!(
        lines.reports(),
        [
            "WARN child_terminated inner/a: failed: boom",
            "WARN start_error inner/a: failed: told to fail",
            "WARN child_terminated inner/a: killed",
            "WARN shutdown inner: restart intensity exceeded",
            "WARN shutdown_error inner/b: killed, not stopped within 1s",
            "INFO child_terminated inner: shutdown: restart intensity exceeded",
        ]
    );
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_gives_up_is_an_error() {
    let (lines, _guard) = Lines::record();
    let a = Probe::new("a", &Diary::default());
    let none = Intensity::new(0, Duration::from_secs(1));
    let root = start(supervisor("root", OneForOne, none, [a.node()])).await.unwrap();
    a.send(Message::Stop(None));
    root.exited().await;
    let reports = lines.reports();
    assert!(
        reports.contains(&"ERROR shutdown root: restart intensity exceeded".to_owned()),
        "{reports:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_actors_events_carry_its_path() {
    let (lines, _guard) = Lines::record();
    let a = Probe::new("a", &Diary::default());
    let inner = supervisor("inner", OneForOne, MANY, [a.node()]);
    let root = start(supervisor("root", OneForOne, MANY, [inner])).await.unwrap();
    let events = lines.events();
    let started: Vec<_> =
        events.iter().filter(|event| event["fields"]["message"] == "probe started").collect();
    assert_eq!(started.len(), 1);
    assert_eq!(started[0]["span"]["actor"], "inner/a");
    root.stop().await;
}
