//! What is left to the program after this one of sockets that were bound before any worker asked, of those that are lent and of those that
//! came back.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Opener;
use crate::dataplane::passing::{Passing, Taking};
use crate::dataplane::reactor::{ListenerId, Reactor, Timer};
use crate::dataplane::spares::{self, SavedOthers};
use crate::report::worker::{Address, Place};
use crate::socket::kept::saved::SavedPool;
use crate::socket::lend::Lender;
use crate::upgrade::plain::Plain as _;
use crate::upgrade::{AdoptError, Moment, SaveError};

/// An opener as it is left. The sockets that were bound before any worker asked are the supervisor's to leave.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dataplane) struct SavedOpener {
    inherited: BTreeMap<i32, SavedInherited>,
    lender: Lender,
    lent: BTreeMap<i32, Place>,
    pool: SavedPool,
    /// The sockets of the pool.
    kept: SavedOthers,
    keeps: bool,
    unwanted_at: Option<Moment>,
    next: ListenerId,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedInherited {
    is_used: bool,
    others: SavedOthers,
}

impl Opener {
    pub(in crate::dataplane) fn save(&self, passing: &mut Passing<'_>) -> Result<SavedOpener, SaveError> {
        let mut inherited = BTreeMap::new();
        for (number, own) in &self.inherited {
            let others = SavedOthers::of(spares::own(&own.others), &format!("inherited/{number}"), passing)?;
            inherited.insert(*number, SavedInherited { is_used: own.is_used, others });
        }
        Ok(SavedOpener {
            inherited,
            lender: self.lender.clone(),
            lent: self.lent.iter().map(|(number, address)| (*number, address.plain())).collect(),
            pool: self.pool.save(),
            kept: SavedOthers::of(self.pool.sockets(), "pool", passing)?,
            keeps: self.keeps,
            unwanted_at: self.unwanted_at.map(Moment::from),
            next: self.next,
        })
    }

    /// Goes on with what was left, and with the sockets that this one has.
    pub(in crate::dataplane) fn inherit(
        mut self,
        saved: SavedOpener,
        taking: &mut Taking,
        reactor: &mut Reactor,
    ) -> Result<Self, AdoptError> {
        for (number, SavedInherited { is_used, others }) in saved.inherited {
            let Some(own) = self.inherited.get_mut(&number) else {
                let missing =
                    format!("socket {number}, which was bound before any worker asked, is not there");
                return Err(AdoptError::Contradiction(missing));
            };
            (own.is_used, own.others) = (is_used, others.inherit(taking)?);
        }
        self.pool.inherit(saved.pool, saved.kept.inherit(taking)?);
        let unwanted_at = saved.unwanted_at.map(Instant::from);
        if let Some(at) = unwanted_at {
            reactor.set_timer(at, Timer::Unwanted);
        }
        let lent = saved.lent.into_iter().map(|(number, place)| (number, Address::of_plain(place))).collect();
        let lender = saved.lender;
        Ok(Self { lender, lent, keeps: saved.keeps, unwanted_at, next: saved.next, ..self })
    }
}
