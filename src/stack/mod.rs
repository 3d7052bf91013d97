//! The layers in their proven order.
mod admin;
pub mod gateway;
pub mod order;

pub use admin::Admin;
