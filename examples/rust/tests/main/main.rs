//! Every server here runs alone and under a master: it answers, and ends when it is told to, with what it was doing done.
//!
//! The master is played: what it takes is a socket that is passed on, a channel, and a pid in the environment.

#![cfg(test)]

mod alone;
mod server;
mod under_a_master;
