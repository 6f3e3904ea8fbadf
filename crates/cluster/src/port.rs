//! A port that stays ours while Postgres restarts.
//!
//! What the kernel hands out is anybody's again once nothing listens on it, so
//! ports are taken below its range and each is held by a lock file.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::Error;

const FIRST: u16 = 29_000;
const COUNT: u16 = 3_000;

#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// Held for its lock, which the kernel drops with the process.
    _lock: File,
}

impl Port {
    pub(crate) fn take() -> Result<Self, Error> {
        let folder = std::env::temp_dir().join("leyden-pg-ports");
        if !folder.exists() {
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
            // Shared by all users of the machine. If it is not ours to change,
            // whoever made it has done so.
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777));
        }
        // From a random one on, or processes that start together would meet.
        let start = RandomState::new().hash_one(std::process::id());
        for step in 0..u64::from(COUNT) {
            let index = (start % u64::from(COUNT) + step) % u64::from(COUNT);
            let number = FIRST + u16::try_from(index).unwrap_or_default();
            let Ok(lock) = File::create(folder.join(number.to_string())) else { continue };
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::NoPort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice() {
        let ports: Vec<Port> = (0..20).map(|_| Port::take().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(|port| port.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
    }
}
