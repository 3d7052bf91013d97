//! Files that are read as a whole.
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// What is in a file of at most so many bytes, or what is wrong with it.
pub(crate) fn slurp(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "cannot be read: no such file".to_owned(),
        kind => format!("cannot be read: {kind}"),
    };
    // Before it is opened: opening a pipe would wait for its other end.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("cannot be read: not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(format!("is larger than {} MiB", most >> 20));
    }
    Ok(bytes)
}

/// Whether anybody on this machine can read it.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    allows(path, 0o004)
}

/// Whether anybody on this machine can write it.
#[cfg(feature = "config")]
pub(crate) fn is_writable_by_others(path: &Path) -> bool {
    allows(path, 0o002)
}

#[cfg(unix)]
fn allows(path: &Path, bits: u32) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.permissions().mode() & bits != 0)
}

#[cfg(not(unix))]
fn allows(_: &Path, _: u32) -> bool {
    false
}
