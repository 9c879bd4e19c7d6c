//! Requests that may have to be sent more than once, because the protocol says that they were not processed.

use crate::client::Client;
use crate::http1::Broken;
use crate::request::Request;
use crate::tally::Cause;

/// How often a request is tried.
const MOST_TRIES: u32 = 5;

/// A request that has no answer yet.
pub(super) struct Pending {
    pub(super) request: Request,
    tries: u32,
}

impl Pending {
    pub(super) fn new(request: Request) -> Self {
        Self { request, tries: 0 }
    }

    /// The server did not process it. It comes back to be sent again; where it was tried too often, it is lost.
    pub(super) fn refused(self, client: &Client) -> Option<Self> {
        let pending = self.again(client)?;
        client.refused();
        Some(pending)
    }

    /// The connection was over before it was sent. It comes back to be sent on another one.
    pub(super) fn unsent(self, client: &Client) -> Option<Self> {
        self.again(client)
    }

    /// There is no connection to send it on. If it was sent before, it is lost.
    pub(super) fn abandoned(self, client: &Client) {
        if self.tries > 0 {
            client.lost(Broken { cause: Cause::RefusedForEver, bytes: 0 }, None, None);
        }
    }

    fn again(mut self, client: &Client) -> Option<Self> {
        self.tries += 1;
        if self.tries < MOST_TRIES {
            return Some(self);
        }
        self.abandoned(client);
        None
    }
}
