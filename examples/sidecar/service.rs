//! The service beside which a sidecar stands: a command, and what becomes of it.
use std::{
    ffi::OsString,
    io::{self, IsTerminal, stdin},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, wait,
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// How often it is looked whether something is left of the service.
const LOOK: Duration = Duration::from_millis(20);

/// A command that runs. It has a process group of its own, so that signals reach it by us alone, and whatever it has started too;
/// but at a terminal, from which only the group in the foreground may read.
pub(crate) struct Service {
    child: Child,
    id: Option<Pid>,
    has_group: bool,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// With the code that a shell would exit with.
    pub(crate) fn start(command: &[OsString]) -> Result<Self, (u8, String)> {
        let [program, arguments @ ..] = command else { return Err((127, "there is no command".to_owned())) };
        let has_group = !stdin().is_terminal();
        let mut command = Command::new(program);
        if has_group {
            command.process_group(0);
        }
        let child = command.args(arguments).spawn().map_err(|error| {
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            (code, format!("{}: {error}", program.to_string_lossy()))
        })?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, id, has_group })
    }

    /// Passes a signal on. Who has ended gets none.
    pub(crate) fn pass(&self, signal: Signal) {
        let Some(id) = self.id else { return };
        // It has just ended, if this fails.
        let _ = match self.has_group {
            true if self.is_left() => kill_process_group(id, signal),
            false if self.child.id().is_some() => kill_process(id, signal),
            _ => return,
        };
    }

    /// Waits until it has ended; can be asked again.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits until nothing is left of what it has started, when it has ended itself.
    pub(crate) async fn all_ended(&self) {
        while self.is_left() {
            sleep(LOOK).await;
        }
    }

    fn is_left(&self) -> bool {
        if self.child.id().is_some() {
            return true;
        }
        // Whose parent has ended is ours, if we are process 1; of our own none is left.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        // As long as somebody is in the group, no other gets its number.
        self.has_group && self.id.is_some_and(|id| test_kill_process_group(id).is_ok())
    }
}

/// What a shell would say of how it ended.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or(signal.map(|signal| 128 + signal)).unwrap_or(1)
}
