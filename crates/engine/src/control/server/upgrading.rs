//! Those who ask for an upgrade, and those whose conversation the program before this one has begun.

use std::io;
use std::path::PathBuf;

use tokio::sync::oneshot;

use super::super::leaving::{Doing, Outcome, SavedDoing};
use super::super::protocol::Reply;
use super::{Conversation, Next, TOO_MANY, attend};
use crate::process::successor::Wanted;
use crate::supervisor::input::Request;

impl Conversation {
    /// Asks for an upgrade. Where it is done this program is no more, and the one after it answers.
    pub(super) async fn upgrade(
        &mut self,
        binary: Option<PathBuf>,
        dry_run: bool,
        wait: bool,
    ) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_wait() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let (reply, mut answer) = oneshot::channel();
        let asked = self.host.cluster.tell(Request::Upgrade(Wanted { binary, dry_run, wait }, reply));
        if let Err(gone) = asked {
            return self.refuse(gone.to_string()).await;
        }
        self.shown.does(Doing::Upgrade);
        let outcome = tokio::select! {
            outcome = &mut answer => outcome,
            left = self.lines.next() => return self.interrupted(left?).await,
        };
        self.shown.does(Doing::Asks);
        let Ok(outcome) = outcome else {
            return self.refuse("the cluster has ended before".to_owned()).await;
        };
        self.say(&told(outcome, dry_run)).await.map(|()| Next::Listen)
    }
}

fn told(outcome: Outcome, dry_run: bool) -> Reply {
    match outcome {
        Ok(upgraded) if dry_run => Reply::Upgradable { from: upgraded.from, to: upgraded.to },
        Ok(upgraded) => {
            let rested_seconds = upgraded.rested.as_secs_f64();
            Reply::Upgraded { from: upgraded.from, to: upgraded.to, rested_seconds }
        }
        Err(reason) => Reply::NotUpgraded { reason },
    }
}

impl Conversation {
    /// Goes on with what the program before has begun, until either side closes the connection.
    pub(super) async fn go_on(
        mut self,
        (unsent, closes): (Vec<u8>, bool),
        doing: SavedDoing,
        outcome: Outcome,
    ) {
        if let Ok(Next::Listen) = self.resume(unsent, closes, doing, outcome).await {
            attend(self).await;
        }
    }

    async fn resume(
        &mut self,
        unsent: Vec<u8>,
        closes: bool,
        doing: SavedDoing,
        outcome: Outcome,
    ) -> io::Result<Next> {
        match doing {
            SavedDoing::Listens => {}
            SavedDoing::Upgrade => {
                self.say(&told(outcome, false)).await?;
            }
            SavedDoing::Events(place) => {
                let place = self.host.recent.place_again(place);
                self.shown.does(Doing::Events(place));
                self.write_slowly(&unsent).await?;
                return self.follow_events().await;
            }
            SavedDoing::Logs(place) => {
                let place = self.host.cluster.ring.place_again(place);
                self.shown.does(Doing::Logs(Box::new(place), None));
                self.write_slowly(&unsent).await?;
                return self.follow_logs().await;
            }
        }
        self.shown.lock().closes = closes;
        self.write_slowly(&unsent).await?;
        Ok(if closes { Next::Close } else { Next::Listen })
    }
}
