//! Addresses.

use supervision::Strategy::OneForOne;
use supervision::{CallError, Mailbox, Undelivered, start, supervisor};

use crate::probe::{Diary, MANY, Message, Probe, SECOND, until_running};

#[tokio::test(start_paused = true)]
async fn an_address_survives_the_restart_of_its_actor() {
    let probe = Probe::new("a", &Diary::default());
    assert_eq!(probe.mailbox.send(Message::Panic("never")), Err(Undelivered));
    let root = start(supervisor("root", OneForOne, MANY, [probe.node()])).await.unwrap();
    let address = probe.mailbox.clone();
    for least in 2..5 {
        assert!(probe.ping().await);
        address.send(Message::Panic("boom")).unwrap();
        until_running(&root, "a", least).await;
        assert!(address.is_up());
    }
    root.stop().await;
    assert!(!address.is_up());
    assert_eq!(address.send(Message::Panic("never")), Err(Undelivered));
}

#[tokio::test(start_paused = true)]
async fn a_call_tells_why_there_is_no_answer() {
    let probe = Probe::new("a", &Diary::default());
    let call = |message: fn(_) -> Message| probe.mailbox.call::<()>(SECOND, message);
    assert_eq!(call(Message::Ping).await, Err(CallError::Down));
    let root = start(supervisor("root", OneForOne, MANY, [probe.node()])).await.unwrap();
    assert_eq!(call(Message::Ping).await, Ok(()));
    assert_eq!(call(Message::Ignore).await, Err(CallError::Timeout));
    assert_eq!(call(Message::Refuse).await, Err(CallError::NoReply));
    root.stop().await;
    assert_eq!(call(Message::Ping).await, Err(CallError::Down));
}

#[test]
fn an_address_needs_no_tree() {
    let mailbox: Mailbox<Message> = Mailbox::default();
    assert!(!mailbox.is_up() && mailbox.actor().is_none());
}
