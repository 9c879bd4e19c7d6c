//! A reload: new workers replace the old ones, or the old ones stay.

mod address;
mod booting;
mod changed;
mod environment;
mod releases;
mod replace;
mod rollback;
mod settings;
mod surge;
mod under_load;
