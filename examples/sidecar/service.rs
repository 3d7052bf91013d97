//! The service beside which a sidecar stands: a command, and what becomes of it.
use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal, stdin},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, setsid, test_kill_process_group, wait,
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// How often it is looked whether something is left of the service.
const LOOK: Duration = Duration::from_millis(20);

/// What this program is asked to [be the service of a terminal](at_terminal) by.
pub(crate) const AT_TERMINAL: &str = "at-terminal";

/// A command that runs. It has a process group of its own, so that signals reach it by us alone, and whatever it has started too.
/// At a terminal it has a session of its own: a terminal stops those who read from it in the background of its own session, and
/// sends what keys say to those in the foreground, which are we; others may read, and are sent nothing.
pub(crate) struct Service {
    child: Child,
    id: Option<Pid>,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// With the code that a shell would exit with.
    pub(crate) fn start(command: &[OsString]) -> Result<Self, (u8, String)> {
        let [program, arguments @ ..] = command else { return Err((127, "there is no command".to_owned())) };
        let command = match stdin().is_terminal() {
            // Only a process itself may begin a session.
            true => std::env::current_exe().map(|own| {
                let mut command = Command::new(own);
                command.args([AT_TERMINAL, "--"]).arg(program);
                command
            }),
            false => {
                let mut command = Command::new(program);
                command.process_group(0);
                Ok(command)
            }
        };
        let child = command.and_then(|mut command| command.args(arguments).spawn());
        let child = child.map_err(|error| not_started(program, &error))?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, id })
    }

    /// Passes a signal on. Who has ended gets none.
    pub(crate) fn pass(&self, signal: Signal) {
        let Some(id) = self.id else { return };
        if self.is_left() && kill_process_group(id, signal).is_err() && self.child.id().is_some() {
            // It has no session yet; or has just ended, if this fails.
            let _ = kill_process(id, signal);
        }
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
        self.id.is_some_and(|id| test_kill_process_group(id).is_ok())
    }
}

/// Becomes this command, in a session of its own; else the code that a shell would exit with, and why.
pub(crate) fn at_terminal(command: &[OsString]) -> (u8, String) {
    let [program, arguments @ ..] = command else { return (127, "there is no command".to_owned()) };
    // Who leads a group already, somebody has started like this.
    let _ = setsid();
    not_started(program, &std::process::Command::new(program).args(arguments).exec())
}

fn not_started(program: &OsStr, error: &io::Error) -> (u8, String) {
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    (code, format!("{}: {error}", program.display()))
}

/// What a shell would say of how it ended.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or(signal.map(|signal| 128 + signal)).unwrap_or(1)
}
