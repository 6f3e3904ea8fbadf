//! Follows a table over HTTP, in the whole of what a client must do.
//!
//! ```text
//! scripts/demo                                              # in one terminal
//! cargo run -p leyden-examples --bin follow -- http://localhost:3000 orders
//! ```
//!
//! You will see the table's rows, then every change as it is committed. Kill
//! the server and start it again: nothing is lost or repeated. TRUNCATE the
//! table: the rows are fetched anew.
#![allow(clippy::print_stdout, reason = "showing what arrives is the story")]

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

/// Where we are in which incarnation of the shape's log.
struct Place {
    handle: Option<String>,
    offset: String,
    /// At the end of the log the next request may be held until there is more.
    live: bool,
    cursor: Option<String>,
}

impl Place {
    fn beginning(handle: Option<String>) -> Self {
        Self { handle, offset: "-1".into(), live: false, cursor: None }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: follow http://localhost:3000 TABLE";
    let (server, table) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let client = Client::new();
    let mut place = Place::beginning(None);
    loop {
        let reply = match ask(&client, &server, &table, &place).await {
            Ok(reply) => reply,
            // A server that restarts: the same request again goes on where we were.
            Err(error) => {
                println!("-- {error}; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        place = match reply.status() {
            StatusCode::OK => show(reply, place).await?,
            // The log has ended; the reply names its successor.
            StatusCode::CONFLICT => {
                println!("-- the shape was rotated; from the beginning");
                Place::beginning(header(&reply, "electric-handle"))
            }
            status if status.is_server_error() => {
                println!("-- {status}: {}", reply.text().await?);
                tokio::time::sleep(Duration::from_secs(1)).await;
                place
            }
            status => anyhow::bail!("{status}: {}", reply.text().await?),
        };
    }
}

async fn ask(
    client: &Client,
    server: &str,
    table: &str,
    place: &Place,
) -> reqwest::Result<Response> {
    let mut query = vec![("table", table), ("offset", &place.offset)];
    query.extend(place.handle.as_deref().map(|handle| ("handle", handle)));
    if place.live {
        query.push(("live", "true"));
        query.extend(place.cursor.as_deref().map(|cursor| ("cursor", cursor)));
    }
    client.get(format!("{server}/v1/shape")).query(&query).send().await
}

/// Prints a reply's messages; returns where to go on.
async fn show(reply: Response, place: Place) -> anyhow::Result<Place> {
    let next = Place {
        handle: header(&reply, "electric-handle"),
        offset: header(&reply, "electric-offset").context("electric-offset")?,
        live: header(&reply, "electric-up-to-date").is_some(),
        cursor: header(&reply, "electric-cursor").or(place.cursor),
    };
    let messages: Vec<Value> = serde_json::from_str(&reply.text().await?)?;
    for message in messages {
        match message["headers"]["operation"].as_str() {
            Some(operation) => println!("{operation:6} {} {}", message["key"], message["value"]),
            None if message["headers"]["control"] == "up-to-date" && !place.live => {
                println!("-- up to date; waiting for changes");
            }
            None => {}
        }
    }
    Ok(next)
}

fn header(reply: &Response, name: &str) -> Option<String> {
    Some(reply.headers().get(name)?.to_str().ok()?.to_owned())
}
