//! A coffee bar: its tables, and a steady trickle of business in them.
//!
//! Everything is ordinary SQL on an ordinary connection, as any application
//! would do it; nothing here knows of Leyden.

use std::time::Duration;

use rand::RngExt;
use tokio_postgres::{Client, Error, NoTls};

const SCHEMA: &str = include_str!("../../demo/schema.sql");

/// A few writes a second.
const PAUSE_MS: std::ops::Range<u64> = 150..550;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const OPEN_ORDERS_MAX: i64 = 14;

const CUSTOMERS: [&str; 16] = [
    "Ada", "Alan", "Barbara", "Dennis", "Edgar", "Edsger", "Frances", "Grace", "Hedy", "Joan",
    "Ken", "Leslie", "Margaret", "Radia", "Robin", "Tony",
];

/// One transaction: the order and its lines are seen together or not at all.
const ORDER: &str = "
    WITH picked AS (
        SELECT id, name, price, CASE WHEN random() < 0.25 THEN 2 ELSE 1 END AS quantity
        FROM menu WHERE available ORDER BY 1 + random() LIMIT 1 + floor(random() * 3)::int
    ), placed AS (
        INSERT INTO orders (customer, summary, total)
        SELECT $1, string_agg(CASE WHEN quantity > 1 THEN quantity || ' × ' ELSE '' END || name, ', '), sum(price * quantity)
        FROM picked HAVING count(*) > 0 RETURNING id
    )
    INSERT INTO order_items (order_id, line, menu_id, quantity)
    SELECT placed.id, row_number() OVER (), picked.id, picked.quantity FROM placed, picked";

/// The order that waits longest goes one step on.
const ADVANCE: &str = "
    UPDATE orders SET updated_at = clock_timestamp(), status = CASE status
        WHEN 'ordered' THEN 'brewing' WHEN 'brewing' THEN 'ready' ELSE 'collected' END::order_status
    WHERE id = (
        SELECT id FROM orders WHERE status IN ('ordered', 'brewing', 'ready')
        ORDER BY updated_at + random() * interval '4 s' LIMIT 1)";

const CANCEL: &str = "
    UPDATE orders SET updated_at = clock_timestamp(), status = 'cancelled'
    WHERE id = (SELECT id FROM orders WHERE status = 'ordered' ORDER BY random() LIMIT 1)";

/// Orders that are done leave the board after a while.
const CLEAR: &str = "
    DELETE FROM orders WHERE id = (
        SELECT id FROM orders WHERE status IN ('collected', 'cancelled')
        AND updated_at < clock_timestamp() - interval '6 s' ORDER BY updated_at LIMIT 1)";

const SELL_OUT: &str = "
    UPDATE menu SET available = NOT available
    WHERE id = (SELECT id FROM menu ORDER BY available, random() LIMIT 1)";

const REPRICE: &str = "
    UPDATE menu SET price = greatest(1.50, price + (floor(random() * 5) - 2) / 10)
    WHERE id = (SELECT id FROM menu ORDER BY random() LIMIT 1)";

#[derive(Debug)]
pub(super) struct Shop {
    url: String,
}

/// Makes the tables and the first orders.
pub(super) async fn open(url: &str) -> Result<Shop, Error> {
    with_client(url, async |client| {
        client.batch_execute(SCHEMA).await?;
        for _ in 0..8 {
            order(&client).await?;
        }
        for _ in 0..10 {
            client.execute(ADVANCE, &[]).await?;
        }
        Ok(())
    })
    .await?;
    Ok(Shop { url: url.to_owned() })
}

impl Shop {
    /// For ever; over losses of the connection too.
    pub(super) async fn trade(&self) {
        loop {
            let ended = with_client(&self.url, async |client| {
                loop {
                    act(&client).await?;
                    let pause = rand::rng().random_range(PAUSE_MS);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            })
            .await;
            let ended: Result<std::convert::Infallible, Error> = ended;
            let Err(error) = ended;
            tracing::warn!(%error, "the shop has lost its database and tries again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

async fn act(client: &Client) -> Result<(), Error> {
    let open = "SELECT count(*) FROM orders WHERE status IN ('ordered', 'brewing', 'ready')";
    let open: i64 = client.query_one(open, &[]).await?.get(0);
    let dice = rand::rng().random_range(0..100);
    match dice {
        0..30 if open < OPEN_ORDERS_MAX => order(client).await?,
        0..72 => _ = client.execute(ADVANCE, &[]).await?,
        72..76 => _ = client.execute(CANCEL, &[]).await?,
        76..95 => _ = client.execute(CLEAR, &[]).await?,
        95..97 => _ = client.execute(SELL_OUT, &[]).await?,
        _ => _ = client.execute(REPRICE, &[]).await?,
    }
    Ok(())
}

async fn order(client: &Client) -> Result<(), Error> {
    let customer = CUSTOMERS[rand::rng().random_range(0..CUSTOMERS.len())];
    client.execute(ORDER, &[&customer]).await?;
    Ok(())
}

/// A connection is its client and the task that moves its bytes; both run here
/// side by side.
async fn with_client<T>(
    url: &str,
    work: impl AsyncFnOnce(Client) -> Result<T, Error>,
) -> Result<T, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let work = work(client);
    tokio::pin!(work, connection);
    tokio::select! {
        done = &mut work => done,
        // What is under way then fails, and says why.
        _ = &mut connection => work.await,
    }
}
