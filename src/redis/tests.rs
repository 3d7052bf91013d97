//! A real server is in `tests/it`.
