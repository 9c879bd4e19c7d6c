//! TLS.

use recluster_loss::{Cause, Endpoint, Kind};
use tokio::io::AsyncReadExt;

use crate::server::{Server, counts};

#[tokio::test]
async fn a_handshake_that_is_cut_off_is_a_lost_connection() {
    let server = Server::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 8192]).await;
    })
    .await;
    let endpoint = Endpoint { tls: true, ..server.endpoint.clone() };
    let counts = counts(&endpoint, Kind::KeepAlive, 2).await;
    assert_eq!((counts.answered, counts.sent()), (0, counts.lost()));
    assert!(counts.losses.iter().all(|loss| matches!(loss.cause, Cause::Connect(_))), "{counts:?}");
}
