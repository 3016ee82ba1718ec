//! A web service whose expensive answers are cached: requests for the same thing at the same time cost one computation, an
//! error of the database is not remembered, and a write forgets what it changes.
//!
//! `cargo run --example axum_service` starts it on a free port, asks it a few things, checks the answers and ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cachekit::{Cache, LoadError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What every handler shares. A cache is cheap to clone, and clones are the same cache.
#[derive(Clone)]
struct App {
    cache: Cache,
    database: Arc<Database>,
}

#[derive(Debug, Clone, thiserror::Error)]
enum DatabaseError {
    #[error("no such user")]
    NotFound,
    #[error("the database is away")]
    Away,
}

/// Stands for one that is far away.
#[derive(Default)]
struct Database {
    names: Mutex<BTreeMap<u64, String>>,
    queries: AtomicU32,
    fails: AtomicU32,
}

impl Database {
    async fn name(&self, id: u64) -> Result<String, DatabaseError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(DatabaseError::Away);
        }
        self.names.lock().ok().and_then(|names| names.get(&id).cloned()).ok_or(DatabaseError::NotFound)
    }

    fn rename(&self, id: u64, name: String) {
        if let Ok(mut names) = self.names.lock() {
            names.insert(id, name);
        }
    }
}

/// What a request can fail with.
enum Failure {
    Database(Arc<DatabaseError>),
    Cache(cachekit::Error),
    Other,
}

impl From<LoadError<DatabaseError>> for Failure {
    fn from(error: LoadError<DatabaseError>) -> Self {
        match error {
            LoadError::Loader(error) => Self::Database(error),
            LoadError::Cache(error) => Self::Cache(error),
            _ => Self::Other,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Database(error) => match *error {
                DatabaseError::NotFound => (StatusCode::NOT_FOUND, error.to_string()),
                DatabaseError::Away => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            },
            Self::Cache(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Self::Other => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        };
        (status, text).into_response()
    }
}

async fn greet(State(app): State<App>, Path(id): Path<u64>) -> Result<String, Failure> {
    let name = app.cache.try_get_or_load(format!("name/{id}"), || app.database.name(id)).await?;
    Ok(format!("Hello, {name}"))
}

async fn rename(State(app): State<App>, Path(id): Path<u64>, name: String) -> Result<StatusCode, Failure> {
    app.database.rename(id, name);
    // After this no older name comes back, also not from a load that is under way.
    app.cache.delete(format!("name/{id}")).await.map_err(Failure::Cache)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stats(State(app): State<App>) -> String {
    serde_json::to_string(&app.cache.stats()).unwrap_or_default()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    // `cachekit::from_env()?` puts the configured store behind it.
    let cache = Cache::builder().namespace("users").default_ttl(Duration::from_secs(60)).build()?;
    let app = App { cache, database: Arc::default() };
    app.database.rename(1, "Ada".into());

    let routes = Router::new().route("/users/{id}", get(greet).put(rename)).route("/stats", get(stats));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = tokio::spawn(axum::serve(listener, routes.with_state(app.clone())).into_future());
    let ask = async |method: &str, path: &str, body: &str| request(address, method, path, body).await;

    // Ten at once are one query.
    let many: Vec<_> =
        (0..10).map(|_| tokio::spawn(async move { request(address, "GET", "/users/1", "").await.ok() })).collect();
    for answer in many {
        assert_eq!(answer.await?, Some((200, "Hello, Ada".to_owned())));
    }
    assert_eq!(app.database.queries.load(Ordering::Relaxed), 1);

    // A write is seen by the next read.
    assert_eq!(ask("PUT", "/users/1", "Grace").await?.0, 204);
    assert_eq!(ask("GET", "/users/1", "").await?, (200, "Hello, Grace".into()));

    // Errors are answers too, and are not remembered.
    assert_eq!(ask("GET", "/users/2", "").await?, (404, "no such user".into()));
    app.cache.delete("name/1").await?;
    app.database.fails.store(1, Ordering::Relaxed);
    assert_eq!(ask("GET", "/users/1", "").await?, (503, "the database is away".into()));
    assert_eq!(ask("GET", "/users/1", "").await?, (200, "Hello, Grace".into()));

    let (status, stats) = ask("GET", "/stats", "").await?;
    assert_eq!(status, 200);
    println!("{stats}");
    service.abort();
    app.cache.close().await?;
    Ok(())
}

/// As much of HTTP as it takes to ask oneself.
async fn request(address: std::net::SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String), Failed> {
    let mut connection = TcpStream::connect(address).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: {}", body.len());
    connection.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
