//! The dialogue with Node's workers: golden lines, properties, and a model of the receiver.

#![cfg(test)]

mod advanced;
mod decoder;
mod from_worker;
mod lines;
mod query_server;
mod resumed;
mod to_worker;
mod values;
mod window;
