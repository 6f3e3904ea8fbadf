//! Under which user Postgres runs: it refuses root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;

/// A user to run as instead of root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The user that Postgres has to run as; none when we are not root.
    ///
    /// # Errors
    /// We are root and there is nobody else.
    pub fn needed() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(Error::io("/etc/passwd"))?;
        let found = ["postgres", "_postgres", "nobody"].iter().find_map(|name| named(&users, name));
        found.map(Some).ok_or(Error::NoAccount)
    }

    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io(path))
    }

    /// Whether every folder on the way to the file lets this user through.
    pub(crate) fn can_run(&self, file: &Path) -> bool {
        file.ancestors().filter(|path| !path.as_os_str().is_empty()).all(|path| {
            let Ok(facts) = fs::metadata(path) else { return false };
            let bit = match (facts.uid() == self.uid, facts.gid() == self.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            facts.mode() & bit != 0
        })
    }
}

fn named(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        is_it.then_some(())?;
        Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_user_in_the_list_of_users() {
        let users = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:n:/:/bin/false\n\n";
        let nobody = named(users, "nobody").unwrap();
        assert_eq!((nobody.uid, nobody.gid), (65534, 65533));
        assert_eq!(named(users, "postgres"), None);
    }
}
