//! axum, with nothing of ours in it: answers with its pid.
//!
//! ```text
//! rr-master --workers 4 --preload target/debug/examples/plain_axum 127.0.0.1:8000
//! ```

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let app = Router::new().route("/", get(|| async { format!("{}\n", std::process::id()) }));
    axum::serve(listener, app).await
}
