//! A sidecar: beside a service in any language it accepts, authorizes, limits and observes what comes in, and finds,
//! balances, retries and encrypts what goes out. It is configured by a file.
//!
//! ```sh
//! cargo run --release --features gateway --example sidecar -- run --config sidecar.yaml -- ./my-service --port 8080
//! ```
//!
//! `-- --help` says what else.

mod arguments;
mod capture;
#[path = "../gateway/log/mod.rs"]
mod log;
mod service;
mod signals;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write as _, stderr, stdout},
    pin::pin,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use portcullis::{
    config::{Config, Configured},
    stack::gateway::{Direction, Gateway},
};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};
use tracing::level_filters::LevelFilter;

use arguments::{Asked, USAGE};
use capture::{Script, Undo};
use service::{Service, at_terminal, code};
use signals::{Signals, ends};

fn main() -> ExitCode {
    let asked = match Asked::parse(std::env::args_os().skip(1)) {
        Ok(asked) => asked,
        Err(mistake) => {
            say(&format!("{mistake}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match asked {
        Asked::Run { config, command } => block_on(run(Config::file(config), &command)),
        Asked::Serve { config } => block_on(serve(Config::file(config))),
        Asked::Check { file } => {
            let check = Config::file(file).check();
            let told = tell(&check);
            if check.is_accepted() { told } else { ExitCode::FAILURE }
        }
        Asked::AtTerminal { command } => {
            let (code, why) = at_terminal(&command);
            say(&why);
            ExitCode::from(code)
        }
        Asked::Capture(capture) => tell(&Script(&capture)),
        Asked::Release => tell(&Undo),
        Asked::Help => tell(&USAGE),
        Asked::Version => tell(&env!("CARGO_PKG_VERSION")),
    }
}

/// Whoever reads may have read enough.
fn tell(what: &dyn std::fmt::Display) -> ExitCode {
    match writeln!(stdout(), "{what}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(&format!("what was to be said cannot be written: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// How often it is said what a service that is not started yet waits for.
const WAITED: Duration = Duration::from_secs(2);

/// Why it could not begin.
type Failed = Box<dyn std::error::Error>;

/// Runs to the end, on one thread: a sidecar has a service beside it that needs the others.
fn block_on(beside: impl Future<Output = Result<u8, Failed>>) -> ExitCode {
    let level = std::env::var("PORTCULLIS_LOG").ok().and_then(|level| level.parse().ok());
    let log = log::Log::up_to(level.unwrap_or(LevelFilter::INFO));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().on_thread_park(log::flush).on_thread_stop(log::flush).build();
    let runtime = runtime.map_err(Failed::from).and_then(|runtime| {
        tracing::subscriber::set_global_default(log)?;
        Ok(runtime)
    });
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(beside);
        // Names that are being resolved are waited for by nobody.
        runtime.shutdown_background();
        ended
    });
    log::flush();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Starts, and says where it listens.
async fn start(config: Config) -> Result<Configured, Failed> {
    let configured = config.start().await?;
    for (name, address) in configured.gateway().addresses() {
        // Nobody need listen.
        let _ = writeln!(stdout(), "{name} on {address}");
    }
    Ok(configured)
}

/// Beside a service of somebody else's.
async fn serve(config: Config) -> Result<u8, Failed> {
    let mut signals = Signals::new()?;
    let configured = start(config).await?;
    loop {
        match signals.next().await {
            Signal::HUP => configured.reload(),
            signal if ends(signal) => break,
            _ => {}
        }
    }
    let gateway = configured.gateway();
    let (delay, grace) = gateway.shutdown_times();
    let down = async {
        gateway.leave(Direction::Inbound, delay, grace).await;
        gateway.shutdown(Duration::ZERO, grace).await
    };
    tokio::select! {
        _ = down => {}
        () = again(&mut signals) => { gateway.cut().await; }
    }
    Ok(0)
}

/// Beside a service that it starts when it is ready, and ends with.
async fn run(config: Config, command: &[OsString]) -> Result<u8, Failed> {
    let mut signals = Signals::new()?;
    let configured = start(config).await?;
    let gateway = configured.gateway();
    if let Some(signal) = ended_before_ready(gateway, &mut signals).await {
        gateway.cut().await;
        return Ok(128 + signal.as_raw().cast_unsigned() as u8);
    }
    let mut service = match Service::start(command) {
        Ok(service) => service,
        Err((code, why)) => {
            say(&why);
            gateway.cut().await;
            return Ok(code);
        }
    };
    let (_, grace) = gateway.shutdown_times();
    let ended = loop {
        tokio::select! {
            ended = service.ended() => break ended?,
            signal = signals.next() => if ends(signal) {
                break end(gateway, &mut service, &mut signals, signal).await?;
            } else {
                service.pass(signal);
            },
        }
    };
    // What it has left running may have something to end, and to ask of others for that.
    let left = passing(&service, &mut signals, service.all_ended());
    if timeout(grace, left).await.is_err() {
        service.pass(Signal::KILL);
    }
    tokio::select! {
        _ = gateway.shutdown(Duration::ZERO, grace) => {}
        () = again(&mut signals) => { gateway.cut().await; }
    }
    Ok(code(ended))
}

/// Waits until the service may start, and says what for; or until we are told to end meanwhile, by which signal. What else comes is for a
/// service that is not there yet.
async fn ended_before_ready(gateway: &Gateway, signals: &mut Signals) -> Option<Signal> {
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => if ends(signal) { return Some(signal) },
            ready = gateway.ready() => return ready.err().map(|_| Signal::TERM),
            () = sleep(WAITED) => if let Err(why) = gateway.readiness() {
                say(&format!("the service is not started yet: {why}"));
            },
        }
    }
}

/// Ends the service: when it has answered what it was asked, and can still ask others. Who does not wait for that says so a second
/// time.
async fn end(
    gateway: &Gateway,
    service: &mut Service,
    signals: &mut Signals,
    signal: Signal,
) -> Result<ExitStatus, Failed> {
    let (delay, grace) = gateway.shutdown_times();
    let mut leaving = pin!(gateway.leave(Direction::Inbound, delay, grace));
    loop {
        tokio::select! {
            ended = service.ended() => return Ok(ended?),
            _ = &mut leaving => break,
            next = signals.next() => if ends(next) { break } else { service.pass(next) },
        }
    }
    service.pass(signal);
    let waited = async {
        loop {
            tokio::select! {
                ended = service.ended() => break ended,
                signal = signals.next() => service.pass(signal),
            }
        }
    };
    if let Ok(ended) = timeout(grace, waited).await {
        return Ok(ended?);
    }
    service.pass(Signal::KILL);
    say(&format!("the service has not ended within {grace:?} after the signal, and was killed"));
    Ok(service.ended().await?)
}

/// Passes on what comes until that is done.
async fn passing(service: &Service, signals: &mut Signals, done: impl Future<Output = ()>) {
    let mut done = pin!(done);
    loop {
        tokio::select! {
            () = &mut done => return,
            signal = signals.next() => service.pass(signal),
        }
    }
}

/// Whoever waits is told once more to end.
async fn again(signals: &mut Signals) {
    while !ends(signals.next().await) {}
}

/// Nobody need listen.
fn say(what: &str) {
    let _ = writeln!(stderr(), "sidecar: {what}");
}
