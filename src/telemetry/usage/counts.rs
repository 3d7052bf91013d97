/// What a meter has counted and delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageCounts {
    /// Requests that were counted.
    pub recorded: u64,
    /// Those of them that were counted for `_other`, since there was no room for another entry.
    pub unattributed: u64,
    /// Batches that could not be put in the spool, and were in memory only until they were delivered.
    pub unspooled: u64,
    /// For each sink.
    pub sinks: Vec<SinkCounts>,
}

/// What has become of batches at one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkCounts {
    /// The sink's name.
    pub sink: String,
    /// Batches that were delivered.
    pub delivered: u64,
    /// Deliveries that failed and were, or will be, tried again.
    pub failures: u64,
    /// Batches that wait, and their bytes.
    pub waiting: usize,
    /// See `waiting`.
    pub waiting_bytes: usize,
    /// Batches that were given up, since too much waited.
    pub lost_batches: u64,
    /// The requests in them.
    pub lost_requests: u64,
}
