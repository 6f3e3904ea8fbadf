//! A port that stays ours over restarts of what listens on it.
//!
//! A port that the kernel hands out is anybody's again once the listener is
//! gone, and a server that is killed must come back on the same one. So ports
//! are taken below the ephemeral range and each is held by a lock file.

use std::fs::{self, File};
use std::net::TcpListener;

use rand::RngExt;

const RANGE: std::ops::Range<u16> = 20_000..29_000;

#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Held for its lock, which the kernel drops with the process.
    _lock: File,
}

impl Port {
    /// Takes a free port of the loopback interface.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn take() -> Self {
        let folder = std::env::temp_dir().join("leyden-test-ports");
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        for _ in 0..1_000 {
            let number = rand::rng().random_range(RANGE);
            let Ok(lock) = File::create(folder.join(number.to_string())) else { continue };
            let free = lock.try_lock().is_ok() && TcpListener::bind(("0.0.0.0", number)).is_ok();
            if free {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
