//! Faults, as they show.
