//! Servers of other languages, as they are: each is started, reloaded under load, killed and stopped.
//!
//! Whatever a server does when it is told to go is its own business: a connection that it has accepted and then closes
//! without an answer is counted, and told apart from what is ours. Ours is that every connection is made: the socket is
//! open at every moment, whoever is replaced or dies.

mod ask;
mod installed;
mod meter;
mod programs;
mod runtimes;
mod rust;
mod servers;
mod trial;
mod upgraded;
