//! `leyden demo`: the whole thing on a throw-away Postgres, in the browser.
//!
//! The storage directory is inside the cluster's folder, which goes with this
//! process however that ends (see `cluster`).

mod client;
mod page;
mod shop;

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use cluster::{Binaries, Cluster, ClusterOptions};

use crate::root::Running;
use crate::serve::{self, Signals};
use crate::settings::{self, Demo, Settings};
use crate::{control, logging, say};

pub(crate) fn run(options: Demo) -> ExitCode {
    match prepare(&options) {
        Ok(prepared) => prepared.run(&options),
        Err(error) => say::failure(&error.to_string()),
    }
}

struct Prepared {
    cluster: Cluster,
    settings: Settings,
    running: Running,
}

/// Everything that blocks, before there is a runtime.
fn prepare(options: &Demo) -> Result<Prepared, Box<dyn std::error::Error>> {
    let port = options.port;
    // Before anything is fetched or started.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        format!("port {port} of 127.0.0.1 cannot be used ({error}): choose another with --port")
    })?;
    say::line("Leyden demo: a coffee bar's orders, from Postgres to the browser.");
    let binaries = match Binaries::find(None) {
        Some(binaries) => binaries,
        None => {
            say::line("  postgres   none on this machine, fetching one with npm");
            Binaries::find_or_fetch(None)?
        }
    };
    let javascript = client::vendor()?;
    let cluster = Cluster::start(
        &binaries,
        ClusterOptions {
            password: Some(password()),
            keep: options.keep,
            ..ClusterOptions::default()
        },
    )?;
    let (major, folder, at) = (cluster.major(), cluster.folder().display(), cluster.port());
    say::line(&format!("  postgres   {major} in {folder}, port {at}, wal_level=logical"));

    let running = Running::default();
    let mut settings = settings::serve(&[
        format!("--database-url={}", cluster.superuser_url()),
        "--insecure".to_owned(),
        format!("--port={port}"),
        format!("--storage-dir={}", cluster.folder().join("leyden").display()),
    ])?;
    // Actors can be killed through it, so nobody else's machine may reach it.
    settings.api.address.set_ip(Ipv4Addr::LOCALHOST.into());
    let routes = page::routes(&javascript).merge(control::routes("/demo", Arc::clone(&running)));
    settings.api.extra = Some(routes);
    Ok(Prepared { cluster, settings, running })
}

/// Nobody has to know it: it keeps other users of the machine out.
fn password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Prepared {
    fn run(self, options: &Demo) -> ExitCode {
        let logging =
            if options.verbose { self.settings.logging.clone() } else { logging::Config::quiet() };
        logging::start(logging);
        let runtime = match serve::runtime() {
            Ok(runtime) => runtime,
            Err(error) => return say::failure(&format!("cannot start threads: {error}")),
        };
        let code =
            runtime.block_on(serve(self.settings, &self.running, &self.cluster.superuser_url()));
        runtime.shutdown_background();
        let folder = self.cluster.folder().display().to_string();
        drop(self.cluster);
        say::line(&if options.keep {
            format!("Kept {folder}.")
        } else {
            "Everything removed.".to_owned()
        });
        code
    }
}

async fn serve(settings: Settings, running: &Running, url: &str) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return say::failure(&format!("cannot listen to signals: {error}")),
    };
    let bound = settings.api.bound.clone();
    let opened = async {
        let shop =
            shop::open(url).await.map_err(|error| format!("cannot set up the shop: {error}"))?;
        Ok::<_, String>((shop, serve::start(settings, running).await?))
    };
    let (shop, root) = tokio::select! {
        opened = opened => match opened {
            Ok(opened) => opened,
            Err(failure) => return say::failure(&failure),
        },
        _ = signals.next() => return ExitCode::SUCCESS,
    };
    let address = bound.wait().await;
    say::line(&format!(
        "  page       http://localhost:{}/  (only from this machine)",
        address.port()
    ));
    say::line(&format!(
        "  one shape  curl 'http://localhost:{}/v1/shape?table=orders&offset=-1'",
        address.port()
    ));
    say::line(
        "Rows change by themselves; kill any actor and watch it heal. Ctrl-C ends it and removes everything.",
    );
    tokio::select! {
        _ = signals.next() => {}
        () = shop.trade() => {}
        reason = root.exited() => return say::failure(&format!("the supervisor tree has ended: {reason}")),
    }
    serve::stop(root, &mut signals).await;
    ExitCode::SUCCESS
}
