//! A worker that crashes at every third message, and a caller that does not
//! notice more than that.
//!
//! You will see the worker's generation grow, the reason of its last exit with
//! the place of the panic, and in the end an orderly stop.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use supervision::Strategy::OneForOne;
use supervision::{Intensity, Mailbox, Restart, Shutdown, start, supervisor, worker};

#[derive(Clone, Debug)]
struct Counter;

enum Message {
    Add(RpcReplyPort<u32>),
}

impl Actor for Counter {
    type Arguments = ();
    type Msg = Message;
    type State = u32;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (): (),
    ) -> Result<u32, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        Message::Add(reply): Message,
        count: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        *count += 1;
        assert!(*count < 3, "three is too many");
        // The caller may have given up.
        let _ = reply.send(*count);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counter = Mailbox::new();
    let second = Duration::from_secs(1);
    let node =
        worker("counter", Restart::Permanent, Shutdown::Timeout(second), &counter, Counter, ());
    let tree = supervisor("root", OneForOne, Intensity::new(5, second), [node]);
    let root = start(tree).await?;
    for _ in 0..9 {
        let answer = counter.call(second, Message::Add).await;
        println!("{answer:?}");
        while answer.is_err() && root.tree().nodes.iter().any(|node| node.state != "running") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for node in root.tree().nodes {
        println!(
            "{} {} generation {} {:?}",
            node.path, node.state, node.generation, node.last_exit
        );
    }
    root.stop().await;
    Ok(())
}
