//! The published JavaScript client, fetched by npm at the pinned version and
//! served to the browser unmodified.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MANIFEST: &str = include_str!("../../demo/package.json");
const LOCK: &str = include_str!("../../demo/package-lock.json");
const NPMRC: &str = include_str!("../../demo/.npmrc");

/// One file without imports, made by the package for browsers.
const FILE: &str = "node_modules/@electric-sql/client/dist/index.browser.mjs";
const INSTALLED: &str = "node_modules/@electric-sql/client/package.json";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the page needs @electric-sql/client: install Node.js with npm")]
    NoNpm(#[source] std::io::Error),
    #[error("npm ci in {folder} failed, try again: {output}")]
    Npm { folder: String, output: String },
    #[error("cannot use {path}: {source}")]
    File { path: String, source: std::io::Error },
}

/// The client's source.
pub(super) fn vendor() -> Result<String, Error> {
    let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/demo"));
    if checkout.join("package-lock.json").is_file() {
        if !is_installed(checkout) {
            install(checkout)?;
        }
        return read(checkout.join(FILE));
    }
    // The binary is away from its sources: for this run only.
    let folder = tempfile::tempdir().map_err(failed(&std::env::temp_dir()))?;
    let files = [("package.json", MANIFEST), ("package-lock.json", LOCK), (".npmrc", NPMRC)];
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::write(&path, text).map_err(failed(&path))?;
    }
    install(folder.path())?;
    read(folder.path().join(FILE))
}

/// At the pinned version.
fn is_installed(folder: &Path) -> bool {
    let version = |manifest: &serde_json::Value| manifest["version"].as_str().map(str::to_owned);
    let installed = fs::read_to_string(folder.join(INSTALLED)).unwrap_or_default();
    let installed: Option<serde_json::Value> = serde_json::from_str(&installed).ok();
    let lock: Option<serde_json::Value> = serde_json::from_str(LOCK).ok();
    let pinned = lock.map(|lock| lock["packages"]["node_modules/@electric-sql/client"].clone());
    let installed = installed.as_ref().and_then(version);
    installed.is_some() && installed == pinned.as_ref().and_then(version)
}

fn install(folder: &Path) -> Result<(), Error> {
    // Packages' own scripts are not run: the client needs none.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--omit=optional", "--silent"]).current_dir(folder);
    let output = npm.output().map_err(Error::NoNpm)?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Error::Npm {
        folder: folder.display().to_string(),
        output: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}

fn read(path: PathBuf) -> Result<String, Error> {
    fs::read_to_string(&path).map_err(failed(&path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { path, source }
}
