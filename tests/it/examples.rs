//! Tests of this room with real peers.
