//! The page at `/`: one file, in the program.

use std::sync::Arc;

use crate::admin::answer::Answer;
use crate::control::room::Shared;

/// It loads nothing but what it asks of this listener, by addresses beside its own.
const HTML: &str = include_str!("page.html");
/// Nothing runs in it but its own script, and nothing styles it but its own sheet: what workers say does neither. The sums are of what
/// stands between the tags.
const POLICY: &str = "default-src 'none'; \
     script-src 'sha256-vSja3vIbOjYEuRBgYq3BeOrtxCzeCAtbsmR3g1Gw64E='; \
     style-src 'sha256-Jgs2L6+hd0dylf+lGekzgrIcS6ym0F8UTeWKPnc7jBg='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, which all who ask for it share.
#[derive(Debug)]
pub(super) struct Page(Arc<Shared>);

impl Default for Page {
    fn default() -> Self {
        Self(Arc::new(Shared::new(HTML.into())))
    }
}

impl Page {
    pub(super) fn answer(&self) -> Answer {
        let answer = Answer::shared(200, "text/html; charset=utf-8", Arc::clone(&self.0));
        Answer { policy: Some(POLICY), ..answer }
    }
}
