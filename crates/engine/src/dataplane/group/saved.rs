//! What is left of a group to the program after this one: its sockets in the order of their places, and who has which.
//!
//! The kernel's program stays attached to the group, and chooses as it did. What waits in a socket, and since when, is looked at anew; so is
//! whether the master is to go on handing connections out, for which it has to know the workers' loops.

use std::net::SocketAddr;
use std::time::Duration;

use recluster_core::WorkerId;
use serde::{Deserialize, Serialize};

use super::{Desk, Group, Member, Place, Spot};
use crate::dataplane::lasting::Budget;
use crate::dataplane::passing::{Passing, Taking};
use crate::dataplane::reactor::Reactor;
use crate::upgrade::{AdoptError, SaveError};

/// A group as it is left.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dataplane) struct SavedGroup {
    address: SocketAddr,
    only_v6: bool,
    backlog: i32,
    shared: bool,
    members: Vec<SavedMember>,
    steered: Vec<Place>,
    desk: Option<SavedDesk>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMember {
    socket: String,
    holder: Option<WorkerId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedDesk {
    place: usize,
    is_open: bool,
    room: u32,
}

impl Group {
    /// `name`: of its listener.
    pub(in crate::dataplane) fn save(
        &self,
        name: &str,
        passing: &mut Passing<'_>,
    ) -> Result<SavedGroup, SaveError> {
        let Spot { address, only_v6, backlog, shared } = self.spot;
        let members = self.members.iter().enumerate().map(|(place, member)| {
            let socket = passing.descriptor(&member.socket, &format!("{name}/member/{place}"))?;
            Ok(SavedMember { socket, holder: member.holder })
        });
        let members = members.collect::<Result<_, SaveError>>()?;
        let desk = self.desk.as_ref();
        let desk = desk.map(|&Desk { place, is_open, room, .. }| SavedDesk { place, is_open, room });
        Ok(SavedGroup { address, only_v6, backlog, shared, members, steered: self.steered.clone(), desk })
    }

    pub(in crate::dataplane) fn inherit(
        saved: SavedGroup,
        taking: &mut Taking,
        reactor: &Reactor,
    ) -> Result<Self, AdoptError> {
        let SavedGroup { address, only_v6, backlog, shared, members, steered, desk } = saved;
        let members = members.into_iter().map(|SavedMember { socket, holder }| {
            let socket = taking.shared(&socket)?;
            Ok(Member { socket, holder, is_overdue: false, is_timed: false, patience: Duration::ZERO })
        });
        let budget = Budget::new(reactor.now);
        Ok(Self {
            spot: Spot { address, only_v6, backlog, shared },
            members: members.collect::<Result<_, AdoptError>>()?,
            steered,
            retry_at: None,
            desk: desk.map(|SavedDesk { place, is_open, room }| Desk {
                place,
                is_open,
                room,
                waits: None,
                budget,
            }),
            recheck_at: None,
        })
    }
}
