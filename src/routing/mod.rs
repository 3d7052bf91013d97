//! WHERE to? Which rule a request is for, what is changed on its way, and which of several versions gets it.
//!
//! | | |
//! |---|---|
//! | [`router`] | the rule that a request is for, by host, path, method, headers and query |
//! | [`canary`] | how much of the requests a new version gets, as long as it is no worse |
//! | [`filter`] | what a rule changes: headers, path, host; redirects; CORS |
//! | [`mirror`] | who gets a copy of the request, without anybody waiting for it |
//! | [`split`] | which of several weighted versions gets the request, and always the same for one caller |
//!
//! [`matching`](crate::matching) has the words that rules are written in, and the normal form of a path.

pub mod canary;
pub mod filter;
pub mod mirror;
pub mod router;
pub mod split;
