use std::{
    fs, io,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

/// How much memory there is, and how much is taken.
///
/// A control group counts pages of files that were read once and are given back when they are needed. They are not counted
/// here: what is taken is `memory.current` without `inactive_file`, as the kubelet reckons.
#[derive(Debug)]
pub struct Memory {
    /// As it was found.
    limit: NonZeroU64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The folder of the group whose limit it is.
    Cgroup(PathBuf),
    /// The resident pages of this process.
    Process,
}

/// Why the memory of a control group cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The system has no control groups of version 2, or does not show them.
    #[error("no control group of version 2 was found: {0}")]
    NoCgroup(#[from] io::Error),
    /// Neither the group of this process nor one around it has a limit.
    #[error("the control group of this process has no limit of memory")]
    Unlimited,
}

impl Memory {
    /// That of this process's control group (version 2), by the nearest limit around it.
    ///
    /// # Errors
    ///
    /// There is no such group, or it has no limit.
    pub fn cgroup() -> Result<Self, MemoryError> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Self::cgroup_at(Path::new("/sys/fs/cgroup"), own)
    }

    /// That of the group `own` in the hierarchy mounted at `root`.
    pub(super) fn cgroup_at(root: &Path, own: &str) -> Result<Self, MemoryError> {
        let own = root.join(own.trim_start_matches('/'));
        // In a container the group is the root of what is shown, whatever it is called outside.
        let own = if own.is_dir() { own } else { root.to_owned() };
        number(&own.join("memory.current"))?;
        let groups = own.ancestors().take_while(|group| group.starts_with(root));
        let limited = groups.filter_map(|group| {
            let limit = NonZeroU64::new(number(&group.join("memory.max")).ok()?)?;
            Some((limit, group))
        });
        let (limit, group) = limited.min_by_key(|(limit, _)| *limit).ok_or(MemoryError::Unlimited)?;
        Ok(Self { limit, place: Place::Cgroup(group.to_owned()) })
    }

    /// The resident memory of this process, of which `limit` bytes are all.
    #[must_use]
    pub const fn resident(limit: NonZeroU64) -> Self {
        Self { limit, place: Place::Process }
    }

    /// The bytes that there are now: a group's limit can be changed while it runs.
    #[must_use]
    pub fn limit(&self) -> NonZeroU64 {
        let told = match &self.place {
            Place::Cgroup(group) => number(&group.join("memory.max")).ok(),
            Place::Process => None,
        };
        told.and_then(NonZeroU64::new).unwrap_or(self.limit)
    }

    /// The bytes that are taken.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn used(&self) -> io::Result<u64> {
        match &self.place {
            Place::Cgroup(group) => {
                let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
                let cache = field(&stat, "inactive_file ").unwrap_or(0);
                Ok(number(&group.join("memory.current"))?.saturating_sub(cache))
            }
            Place::Process => {
                let status = fs::read_to_string("/proc/self/status")?;
                resident(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// The share that is taken, if the system tells.
    pub(super) fn share(&self) -> Option<f64> {
        Some(self.used().ok()? as f64 / self.limit().get() as f64)
    }
}

/// The resident bytes that `/proc/<pid>/status` tells.
pub(super) fn resident(status: &str) -> Option<u64> {
    Some(field(status, "VmRSS:")?.saturating_mul(1024))
}

/// The number in a file. `max` is none.
fn number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}
