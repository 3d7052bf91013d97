//! Connections that carry something else than HTTP: which route they take, who may open them, and to whom they go.
mod counts;
mod destination;
mod forward;
mod route;
mod table;

pub use destination::{DestinationMatch, InvalidDestinationMatch};
pub use route::TcpRoute;
pub(super) use {
    counts::Numbers,
    forward::Forwarder,
    table::{StreamsIn, Table},
};
