//! The admin listener: a small HTTP server of the master, for Prometheus, for load balancers, and for people with `curl`.
//!
//! | | |
//! | --- | --- |
//! | `GET /metrics` | text for Prometheus: version 0.0.4, or OpenMetrics where that is accepted |
//! | `GET /livez` | 200 while the master answers |
//! | `GET /readyz` | 200 while new clients may be sent here; `?strict` wants a worker in every slot |
//! | `GET /status` | the status, as JSON |
//! | `GET /history` | the last ten minutes, as JSON |
//! | `GET /` | a page for people |
//! | `POST /reload`, `/scale?n=N`, `/stop`, `/terminate` | changes, for those who know the token |
//!
//! A program binds it with [`Admin::bind`] before it starts its cluster, so that it fails early if the address is taken, and answers with
//! [`Admin::serve`]. It has a thread of its own, and asks the cluster for a picture no faster than that costs a tenth of the cluster's
//! time; all who ask at once share one, and who asks for the health waits for none. Whatever clients do, they are few, hold a few bytes each, and have a time for everything.
//!
//! ```no_run
//! use recluster::Cluster;
//! use recluster::admin::{Admin, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let admin = Admin::bind(Options::at("127.0.0.1:9464".parse()?)).await?;
//! let cluster = Cluster::builder("server.js").start().await?;
//! let answering = admin.serve(cluster.clone())?;
//! cluster.wait().await;
//! answering.close().await;
//! # Ok(())
//! # }
//! ```

mod answer;
mod changes;
mod conversation;
mod date;
pub(crate) mod head;
mod health;
pub(crate) mod history;
pub(crate) mod hosts;
mod keeper;
mod leaving;
mod listener;
mod page;
mod picture;
mod sample;
mod server;
mod site;
mod token;

pub use changes::Changed;
pub use leaving::Leaver;
pub use listener::{Admin, AdminError, Options};
pub use server::{News, Server};
pub use token::TokenError;
