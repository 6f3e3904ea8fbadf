//! Ends Postgres and removes its folder when the process that started them is
//! gone, however it went.
//!
//! A shell reads a pipe whose other end only we hold. The kernel closes that
//! end when we die, `kill -9` included, and the shell goes to work. It is in a
//! process group of its own, so that Ctrl-C on the terminal does not reach it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Error;

/// `$1` is the folder, `$2` says whether it stays. A process id that is not in
/// our data folder is another process's by now.
const SCRIPT: &str = r#"
read -r _
data=$1/data
pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
ours() {
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null &&
    { [ ! -e /proc/self/cwd ] || [ "$(readlink "/proc/$pid/cwd")" = "$data" ]; }
}
if ours; then
  kill -QUIT "$pid"
  tries=0
  while ours && [ $tries -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
  ours && kill -KILL "$pid"
fi
[ "$2" = keep ] || rm -rf -- "$1"
"#;

#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn start(folder: &Path, keep: bool) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(folder).arg(if keep { "keep" } else { "remove" });
        // Not our stdout: who waits for the end of our output waits for it.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/").process_group(0);
        let shell = command.spawn();
        let shell = shell.map_err(|source| Error::Program { program: "sh".to_owned(), source })?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    /// Lets it do its work, and waits for it.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It can only have ended already.
        let _ = self.shell.wait();
    }
}
