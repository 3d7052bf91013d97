//! The service beside which a sidecar stands: a command, and what becomes of it.
use std::{ffi::OsString, io, os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// A command that runs, in a process group of its own: signals reach it by us alone, and whatever it has started too.
pub(crate) struct Service {
    child: Child,
    group: Option<Pid>,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// With the code that a shell would exit with.
    pub(crate) fn start(command: &[OsString]) -> Result<Self, (u8, String)> {
        let [program, arguments @ ..] = command else { return Err((127, "there is no command".to_owned())) };
        let child = Command::new(program).args(arguments).process_group(0).spawn().map_err(|error| {
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            (code, format!("{}: {error}", program.to_string_lossy()))
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, group })
    }

    /// Passes a signal on. One that has ended gets none.
    pub(crate) fn pass(&self, signal: Signal) {
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            // It has just ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits until it has ended; can be asked again.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// What a shell would say of how it ended.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or(signal.map(|signal| 128 + signal)).unwrap_or(1)
}
