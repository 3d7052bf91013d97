//! Tokens, good and bad. The issuer is made here, with the crypto library's own signing.

mod attacks;
mod binding;
mod claims;
mod cost;
mod gate;
mod headers;
mod issuer;
mod keys;
mod memory;
mod several;
mod tricks;
mod vectors;

use issuer::*;
