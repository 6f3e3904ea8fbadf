//! What callers of this crate are told.

use crate::ExitReason;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("child {id} is already started")]
    AlreadyStarted { id: String },
    /// It has ended or been terminated, and its supervisor keeps it:
    /// `restart_child` starts it.
    #[error("child {id} is already present")]
    AlreadyPresent { id: String },
    #[error("the supervisor already has its maximum of {max} children")]
    AtCapacity { max: usize },
    #[error("{path} could not be started: {reason}")]
    Failed { path: String, reason: ExitReason },
    #[error("the supervisor is not running")]
    NotRunning,
    #[error("invalid child {id:?}: {why}")]
    Invalid { id: String, why: &'static str },
}

/// Why a supervisor did not do what it was asked to do with one child.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("no such child: {id}")]
    NotFound { id: String },
    #[error("child {id} is running")]
    Running { id: String },
    #[error("child {id} is being restarted")]
    Restarting { id: String },
    #[error("{path} could not be started: {reason}")]
    Failed { path: String, reason: ExitReason },
    /// What has ended there is forgotten, so there is nothing to restart or
    /// delete.
    #[error("the supervisor is dynamic")]
    Dynamic,
    #[error("the supervisor is not running")]
    NotRunning,
}

#[derive(Debug, thiserror::Error)]
#[error("no such child: {id}")]
pub struct NotFound {
    pub id: String,
}

#[derive(Debug, thiserror::Error)]
#[error("no such path in the tree: {path}")]
pub struct NoSuchPath {
    pub path: String,
}

/// The actor is down; the message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor is down")]
pub struct Undelivered;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the actor is down")]
    Down,
    #[error("the actor did not answer in time")]
    Timeout,
    /// The actor dropped the reply port, most often because it ended.
    #[error("the actor ended without an answer")]
    NoReply,
}
