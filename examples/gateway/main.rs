//! A gateway that needs no Rust: it is configured by a file.
//!
//! `cargo run --release --features gateway --example gateway` starts a demonstration; `-- --help` says what else.

mod arguments;
mod demo;
mod keys;
mod log;

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

use tracing::level_filters::LevelFilter;

use arguments::{Command, USAGE};
use portcullis::config::{self, Config, Configured};

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(mistake) => {
            fail(format_args!("gateway: {mistake}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match command {
        // One who tries the five lines is to see them, and not a line for each of a thousand requests.
        Command::Demo => run(LevelFilter::WARN, demo::run()),
        Command::Serve { config } => run(LevelFilter::INFO, serve(Config::file(config))),
        Command::Check { file } => check(&Config::file(file)),
        Command::Keys(order) => keys::run(order),
        Command::Explain => tell(portcullis::stack::order::gateway()),
        Command::Schema => tell(config::schema().trim_end()),
        Command::Help => tell(USAGE),
        Command::Version => tell(env!("CARGO_PKG_VERSION")),
    }
}

/// Whoever reads may have read enough.
fn tell(text: impl Display) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(format_args!("gateway: what was to be said cannot be written: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(why: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}

fn check(config: &Config) -> ExitCode {
    let check = config.check();
    let told = tell(&check);
    if check.is_accepted() { told } else { ExitCode::FAILURE }
}

/// Why there is nothing to serve.
type Failed = Box<dyn std::error::Error>;

/// Runs to the end, and says why if it could not begin. The log has this level unless the environment says another.
fn run(level: LevelFilter, serving: impl Future<Output = Result<(), Failed>>) -> ExitCode {
    let said = std::env::var("PORTCULLIS_LOG").ok().and_then(|said| said.parse().ok());
    let log = log::Log::up_to(said.unwrap_or(level));
    // One thread where there is one core: it hands on what has come in bursts, of which others are woken less often.
    let mut runtime = match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().on_thread_park(log::flush).on_thread_stop(log::flush).build();
    let runtime = runtime.map_err(Failed::from).and_then(|runtime| {
        tracing::subscriber::set_global_default(log)?;
        Ok(runtime)
    });
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(serving);
        // Names that are being resolved are waited for by nobody.
        runtime.shutdown_background();
        served
    });
    log::flush();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

async fn serve(config: Config) -> Result<(), Failed> {
    let configured = config.start().await?;
    until_told(&configured, || {
        for (name, address) in configured.gateway().addresses() {
            // Nobody need listen.
            let _ = writeln!(io::stdout(), "{name} on {address}");
        }
    })
    .await;
    Ok(())
}

/// Serves until SIGTERM, and looks at the configuration again at SIGHUP. Announces when both are listened for.
async fn until_told(configured: &Configured, announce: impl FnOnce()) {
    tokio::select! {
        biased;
        _ = configured.gateway().run() => {}
        () = hangups(configured, announce) => {}
    }
}

async fn hangups(configured: &Configured, announce: impl FnOnce()) {
    #[cfg(unix)]
    if let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        announce();
        while hangup.recv().await.is_some() {
            configured.reload();
        }
    }
    #[cfg(not(unix))]
    announce();
    std::future::pending::<()>().await;
}
