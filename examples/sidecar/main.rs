//! A sidecar: beside a service in any language it accepts, authorizes, limits and observes what comes in, and finds,
//! balances, retries and encrypts what goes out. It is configured by a file.
//!
//! ```sh
//! cargo run --release --features gateway --example sidecar -- run --config sidecar.yaml -- ./my-service --port 8080
//! ```
//!
//! `-- --help` says what else.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

mod arguments;
mod capture;
#[path = "../gateway/log/mod.rs"]
mod log;
mod service;
mod signals;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use portcullis::{
    config::{Config, Configured},
    stack::gateway::{Direction, Gateway},
};
use rustix::process::Signal;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;

use arguments::{Asked, USAGE};
use capture::{Script, Undo};
use service::{Service, code};
use signals::{Signals, ends};

fn main() -> ExitCode {
    let asked = match Asked::parse(std::env::args_os().skip(1)) {
        Ok(asked) => asked,
        Err(mistake) => {
            eprintln!("sidecar: {mistake}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match asked {
        Asked::Run { config, command } => block_on(run(Config::file(config), &command)),
        Asked::Serve { config } => block_on(serve(Config::file(config))),
        Asked::Check { file } => {
            let check = Config::file(file).check();
            println!("{check}");
            if check.is_accepted() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Asked::Capture(capture) => tell(&Script(&capture)),
        Asked::Release => tell(&Undo),
        Asked::Help => tell(&USAGE),
        Asked::Version => tell(&env!("CARGO_PKG_VERSION")),
    }
}

fn tell(what: &dyn std::fmt::Display) -> ExitCode {
    println!("{what}");
    ExitCode::SUCCESS
}

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
    let ended = runtime.and_then(|runtime| runtime.block_on(beside));
    log::flush();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts, and says where it listens.
async fn start(config: Config) -> Result<Configured, Failed> {
    let configured = config.start().await?;
    for (name, address) in configured.gateway().addresses() {
        println!("{name} on {address}");
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
    let mut service = match Service::start(command) {
        Ok(service) => service,
        Err((code, why)) => {
            eprintln!("sidecar: {why}");
            gateway.cut().await;
            return Ok(code);
        }
    };
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
    // What it called goes on as long as others answer: it may have been asked to by what it has left running.
    let (_, grace) = gateway.shutdown_times();
    tokio::select! {
        _ = gateway.shutdown(Duration::ZERO, grace) => {}
        () = again(&mut signals) => { gateway.cut().await; }
    }
    Ok(code(ended))
}

/// Ends the service: when it has answered what it was asked, and can still ask others. Who does not wait for that, or for the
/// service to end, says so a second time.
async fn end(
    gateway: &Gateway,
    service: &mut Service,
    signals: &mut Signals,
    signal: Signal,
) -> Result<std::process::ExitStatus, Failed> {
    let (delay, grace) = gateway.shutdown_times();
    tokio::select! {
        ended = service.ended() => return Ok(ended?),
        _ = gateway.leave(Direction::Inbound, delay, grace) => {}
        () = again(signals) => {}
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
    eprintln!("sidecar: the service has not ended within {grace:?} after the signal, and is killed");
    service.pass(Signal::KILL);
    Ok(service.ended().await?)
}

/// Whoever waits is told once more to end.
async fn again(signals: &mut Signals) {
    while !ends(signals.next().await) {}
}
