//! The layers in their proven order.
mod admin;
pub mod gateway;

pub use admin::Admin;
