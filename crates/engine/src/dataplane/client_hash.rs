//! Which slot a client belongs to: values only. The kernel's program in `bpf` computes the same.
//!
//! A client is a number: the hash of its key. The upper bits name one of [`BUCKETS`] buckets, and each slot owns a share of
//! these. All shares are equal but for one bucket, and with one slot more or fewer only the share of that slot moves. While a
//! slot has no worker that serves, its buckets are lent to the others.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// How many buckets there are: at most so many slots can have clients of their own.
pub(super) const BUCKETS: usize = 512;
/// How far a client's number is shifted to the right for its bucket.
pub(super) const BUCKET_SHIFT: u32 = u32::BITS - BUCKETS.trailing_zeros();

/// A client, as the number that its key is hashed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client(u32);

impl Client {
    pub(super) fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(mix(address.to_bits())),
            IpAddr::V6(address) => Self(mix(mix(word(&address, 0)) ^ word(&address, 4))),
        }
    }

    /// The client with this key. One that is an address is the client at that address.
    pub(super) fn named(key: &[u8]) -> Self {
        let address = std::str::from_utf8(key).ok().and_then(address_in);
        address.map_or_else(|| Self(mix(fnv(key))), Self::at)
    }

    /// The number that its key is hashed to.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    fn bucket(self) -> usize {
        (self.0 >> BUCKET_SHIFT) as usize
    }
}

/// An address as proxies write it, some with a port: `10.1.2.3`, `10.1.2.3:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn address_in(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

fn word(address: &Ipv6Addr, at: usize) -> u32 {
    let octets = address.octets();
    octets.iter().skip(at).take(4).fold(0, |word, &octet| word << 8 | u32::from(octet))
}

/// The multipliers of [`mix`].
pub(super) const MULTIPLIERS: [u32; 2] = [0x85eb_ca6b, 0xc2b2_ae35];
/// The shifts of [`mix`].
pub(super) const SHIFTS: [u32; 3] = [16, 13, 16];

/// Spreads numbers, neighbours above all, over all numbers (the last step of `MurmurHash3`).
fn mix(number: u32) -> u32 {
    let [first, second, third] = SHIFTS;
    let [one, two] = MULTIPLIERS;
    let number = (number ^ number >> first).wrapping_mul(one);
    let number = (number ^ number >> second).wrapping_mul(two);
    number ^ number >> third
}

/// A number for bytes (FNV-1a).
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Which slot gets whose connections, while these slots have a worker that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    slots: Vec<u32>,
    /// For each bucket, which of these slots; empty where there is none.
    owners: Vec<u32>,
}

impl Table {
    /// The slots must be in order.
    pub(super) fn new(slots: Vec<u32>) -> Self {
        let Some(&highest) = slots.last() else { return Self::default() };
        let owners = (0..).zip(shares(highest)).map(|(bucket, slot)| {
            // What is lent goes to the same slot as long as these are there.
            let other = || slots.get(mix(bucket) as usize % slots.len()).copied().unwrap_or(highest);
            if slots.binary_search(&slot).is_ok() { slot } else { other() }
        });
        Self { owners: owners.collect(), slots }
    }

    /// The slots for which it was made.
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The slot of each bucket, in order.
    pub(super) fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// The client's slot, if there is any.
    pub(super) fn slot_of(&self, client: Client) -> Option<u32> {
        self.owners.get(client.bucket()).copied()
    }
}

/// For each bucket the slot that owns it, of the slots up to this one. One slot after the other is added, and takes its share
/// from those that have the most.
fn shares(highest: u32) -> Vec<u32> {
    let mut owned = vec![(0..BUCKETS).collect::<Vec<usize>>()];
    let count = BUCKETS.min(highest as usize + 1);
    for slots in 2..=count {
        let mut share = Vec::with_capacity(BUCKETS / slots);
        for _ in 0..BUCKETS / slots {
            // The first of those that have the most: `max_by_key` would find the last.
            let richest = owned.iter_mut().rev().max_by_key(|buckets| buckets.len());
            share.extend(richest.and_then(Vec::pop));
        }
        owned.push(share);
    }
    let mut owners = vec![0; BUCKETS];
    for (slot, buckets) in (0..).zip(&owned) {
        for &bucket in buckets {
            if let Some(owner) = owners.get_mut(bucket) {
                *owner = slot;
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn up_to(count: u32) -> Table {
        Table::new((0..count).collect())
    }

    fn sizes(table: &Table) -> BTreeMap<u32, usize> {
        let mut sizes = BTreeMap::new();
        for &slot in table.owners() {
            *sizes.entry(slot).or_insert(0) += 1;
        }
        sizes
    }

    #[test]
    fn shares_are_equal() {
        for count in 1..=100 {
            let sizes = sizes(&up_to(count));
            let (least, most) = (sizes.values().min().unwrap(), sizes.values().max().unwrap());
            assert!(sizes.len() == count as usize && most - least <= 1, "{count}: {sizes:?}");
        }
    }

    #[test]
    fn with_one_slot_fewer_only_its_share_moves() {
        for count in 1..64 {
            let (fewer, more) = (up_to(count), up_to(count + 1));
            let moved = fewer.owners().iter().zip(more.owners()).filter(|(before, after)| before != after);
            assert!(moved.into_iter().all(|(_, after)| *after == count));
        }
    }

    #[test]
    fn the_clients_of_a_slot_without_a_worker_are_lent_to_all_others() {
        let (all, some) = (up_to(4), Table::new(vec![0, 2, 3]));
        let mut lent = BTreeMap::new();
        for (whole, part) in all.owners().iter().zip(some.owners()) {
            if *whole == 1 {
                *lent.entry(*part).or_insert(0) += 1;
            } else {
                assert_eq!(whole, part);
            }
        }
        assert!(lent.keys().eq(&[0, 2, 3]) && lent.values().all(|count| *count > 25), "{lent:?}");
    }

    #[test]
    fn neighbours_are_spread_evenly() {
        let table = up_to(8);
        let mut counts = BTreeMap::new();
        for number in 0..10_000_u32 {
            let client = Client::at(IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
            *counts.entry(table.slot_of(client)).or_insert(0_u32) += 1;
        }
        assert!(counts.len() == 8 && counts.values().all(|count| count.abs_diff(1250) < 125), "{counts:?}");
    }

    #[test]
    fn an_address_is_one_client_however_it_is_written() {
        let at = |text: &str| Client::at(text.parse().unwrap());
        assert_eq!(at("::ffff:10.1.2.3"), at("10.1.2.3"));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:3:4:5:6"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(Client::named(b"2001:db8:1:2::7"), at("2001:db8:1:2::1"));
        for text in ["10.1.2.3", "10.1.2.3:4711"] {
            assert_eq!(Client::named(text.as_bytes()), at("10.1.2.3"));
        }
        for text in ["[2001:db8:1:2::1]", "[2001:db8:1:2::1]:4711"] {
            assert_eq!(Client::named(text.as_bytes()), at("2001:db8:1:2::1"));
        }
        assert_ne!(Client::named(b"anna"), Client::named(b"otto"));
    }

    #[test]
    fn without_slots_no_client_has_one() {
        assert_eq!(Table::new(Vec::new()).slot_of(Client::named(b"anna")), None);
        // More slots than buckets: the last ones have no clients, and all clients have a slot.
        let many = up_to(1500);
        assert_eq!(sizes(&many).len(), BUCKETS);
    }
}
