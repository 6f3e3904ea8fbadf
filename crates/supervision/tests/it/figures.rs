//! What the snapshot says an actor costs, and what followers of reports hear.

use std::time::Duration;

use supervision::Strategy::OneForOne;
use supervision::{Mailbox, Restart, Shutdown, bytes_held, start, supervisor, worker};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::probe::{Diary, MANY, Message, Probe, SECOND, until_running};

/// Works, without waiting, for as long as it is told, and holds as much.
#[derive(Clone, Debug)]
struct Busy;

#[derive(Debug)]
enum Work {
    For(Duration),
    Done(RpcReplyPort<()>),
}

impl Actor for Busy {
    type Arguments = ();
    type Msg = Work;
    type State = ();

    async fn pre_start(&self, myself: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        bytes_held(&myself).set(4096);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Work>,
        work: Work,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match work {
            Work::For(time) => {
                let begin = std::time::Instant::now();
                while begin.elapsed() < time {
                    std::hint::spin_loop();
                }
            }
            Work::Done(reply) => {
                let _ = reply.send(());
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_actors_messages_time_queue_and_bytes_are_counted() {
    let mailbox = Mailbox::new();
    let node = worker("busy", Restart::Permanent, Shutdown::BrutalKill, &mailbox, Busy, ());
    let root = start(supervisor("root", OneForOne, MANY, [node])).await.unwrap();
    for _ in 0..5 {
        mailbox.send(Work::For(Duration::from_millis(1))).unwrap();
    }
    let waiting = root.tree().get("busy").unwrap().clone();
    assert_eq!((waiting.handled, waiting.mailbox_depth), (0, 5), "nothing has run since");
    mailbox.call(SECOND, Work::Done).await.unwrap();
    let busy = root.tree().get("busy").unwrap().clone();
    assert_eq!((busy.handled, busy.mailbox_depth, busy.mailbox_depth_max), (6, 0, 6));
    assert!((5_000..1_000_000).contains(&busy.busy_us), "{}", busy.busy_us);
    assert_eq!(busy.bytes_held, 4096);
    assert!(busy.pid.is_some());
    root.kill("busy").unwrap();
    until_running(&root, "busy", 2).await;
    let fresh = root.tree().get("busy").unwrap().clone();
    assert_eq!((fresh.handled, fresh.mailbox_depth, fresh.mailbox_depth_max), (0, 0, 0));
    assert_ne!(fresh.pid, busy.pid);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn followers_hear_every_report_and_the_slow_lose_the_oldest() {
    let a = Probe::new("a", &Diary::default());
    let root = start(supervisor("root", OneForOne, MANY, [a.node()])).await.unwrap();
    let mut reports = root.reports();
    a.fail_next_starts(1);
    a.send(Message::Fail("boom"));
    until_running(&root, "a", 3).await;
    let mut heard = Vec::new();
    while let Ok(report) = reports.try_recv() {
        heard.push(format!("{} {} {:?}", report.context, report.actor, report.reason));
    }
    assert_eq!(
        heard,
        [
            "child_terminated a Some(\"failed: boom\")",
            "start_error a Some(\"failed: told to fail\")",
            "progress a None",
        ]
    );
    root.stop().await;
}
