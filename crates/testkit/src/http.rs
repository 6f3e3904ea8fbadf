//! Raw HTTP against a server: the requests and replies of the protocol tests.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use std::time::Duration;

/// A client of one server that hides nothing: no retries, no redirects.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    base: String,
}

/// A reply read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Http {
    pub fn new(base: &str) -> Self {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a plain HTTP client needs nothing that could be missing");
        Self { client, base: base.trim_end_matches('/').to_owned() }
    }

    /// A request for `path`, query included, for the caller to add to.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn try_get(&self, path: &str) -> reqwest::Result<Reply> {
        send(self.request(Method::GET, path)).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.reply(self.request(Method::GET, path)).await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.reply(self.request(Method::HEAD, path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.reply(self.request(Method::DELETE, path)).await
    }

    pub async fn options(&self, path: &str) -> Reply {
        self.reply(self.request(Method::OPTIONS, path)).await
    }

    /// GET with one request header.
    pub async fn get_with(&self, path: &str, name: &str, value: &str) -> Reply {
        self.reply(self.request(Method::GET, path).header(name, value)).await
    }

    /// # Errors
    /// No connection, or one that ended before the body did.
    pub async fn try_reply(&self, request: RequestBuilder) -> reqwest::Result<Reply> {
        send(request).await
    }

    /// # Panics
    /// When there is no whole reply.
    pub async fn reply(&self, request: RequestBuilder) -> Reply {
        match send(request).await {
            Ok(reply) => reply,
            Err(error) => panic!("no reply from {}: {error:?}", self.base),
        }
    }
}

/// Sends `request` and reads the whole body.
///
/// # Errors
/// No connection, or one that ended before the body did.
pub(crate) async fn send(request: RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, body: response.bytes().await? })
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        // Column names in the schema header may be any UTF-8.
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies are UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The messages of a 200 of the shape route.
    ///
    /// # Panics
    /// When the reply is anything else.
    pub fn messages(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: no array of messages: {}", self.text()))
    }

    /// The messages that are changes or rows, without the control messages.
    pub fn changes(&self) -> Vec<Value> {
        let is_change = |message: &Value| message["headers"]["operation"].is_string();
        self.messages().into_iter().filter(is_change).collect()
    }

    /// The control messages' names, in order.
    pub fn controls(&self) -> Vec<String> {
        let messages = self.messages();
        let controls = messages.iter().filter_map(|message| message["headers"]["control"].as_str());
        controls.map(ToOwned::to_owned).collect()
    }

    #[track_caller]
    pub fn handle(&self) -> String {
        self.required("electric-handle")
    }

    #[track_caller]
    pub fn offset(&self) -> String {
        self.required("electric-offset")
    }

    pub fn is_up_to_date(&self) -> bool {
        self.headers.contains_key("electric-up-to-date")
    }

    #[track_caller]
    fn required(&self, name: &str) -> String {
        match self.header(name) {
            Some(value) => value.to_owned(),
            None => panic!("no {name} in a {}: {}", self.status, self.text()),
        }
    }
}
