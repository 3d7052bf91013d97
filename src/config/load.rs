use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use super::{
    at::At,
    compile::{Calls, Compiled, Compiler},
    document::Document,
    fault::Faults,
    files::Files,
    gates::Registry,
    kept::Kept,
    schema::{Client, Gateway, Schema, gateway_schema, schema_of},
};
use crate::stack::gateway::{RuleFacts, Snapshot};
#[cfg(feature = "prometheus")]
use crate::{stack::mesh::Destination, telemetry::metrics::Metrics};

/// A configuration: a file, or a text, and the gates that it may use.
#[derive(Debug, Clone)]
#[must_use]
pub struct Config {
    pub(super) source: Source,
    gates: Arc<Registry>,
    #[cfg(feature = "prometheus")]
    pub(super) metrics: Option<Metrics>,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    File(PathBuf),
    Text { name: Arc<str>, text: Arc<str> },
}

impl Config {
    /// The file at this path. Relative paths in it begin at its directory.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// This text, which is called `name` where it is wrong. Relative paths in it begin at the working directory.
    pub fn text(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self::of(Source::Text { name: name.into(), text: text.into() })
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            gates: Arc::default(),
            #[cfg(feature = "prometheus")]
            metrics: None,
        }
    }

    /// Lets it use these gates.
    pub fn gates(self, gates: Registry) -> Self {
        Self { gates: Arc::new(gates), ..self }
    }

    /// Keeps its numbers there, beside others of the process. Unless told a
    /// [gateway](crate::stack::gateway::Gateway::metrics) and a [client](super::ConfiguredClient::metrics) have their own.
    #[cfg(feature = "prometheus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    pub fn metrics(self, metrics: &Metrics) -> Self {
        Self { metrics: Some(metrics.clone()), ..self }
    }

    /// Reads it, with the files that it names, and says what is wrong; nothing is bound or connected.
    #[must_use]
    pub fn check(&self) -> Check {
        let Reading { compiled, faults, .. } = self.read(&Kept::default());
        let made = compiled.map(|compiled| compiled.made);
        let rules = made.as_ref().map(|made| made.rules().to_vec()).unwrap_or_default();
        let open = made.map(|made| made.public_streams().map(Into::into).collect()).unwrap_or_default();
        Check { name: self.name(), faults, rules, open }
    }

    /// The snapshot that it describes, for those who run it themselves. [`start`](Self::start) also follows its
    /// changes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong; and outside of a tokio runtime that there are `identities`, or roots in files: nobody would
    /// look at them again, until they have expired.
    pub fn load(&self) -> Result<Snapshot, Faults> {
        let Reading { compiled, faults, .. } = self.read(&Kept::default());
        let Some(Compiled { made, .. }) = compiled else { return Err(faults) };
        #[cfg(feature = "tls")]
        if made.has_credentials() && tokio::runtime::Handle::try_current().is_err() {
            let mut faults = faults;
            let why = "its identities and roots would not be renewed: load it within a tokio runtime";
            faults.of_file(&self.name(), why);
            return Err(faults);
        }
        Ok(made)
    }

    fn name(&self) -> Arc<str> {
        match &self.source {
            Source::File(path) => path.to_string_lossy().into(),
            Source::Text { name, .. } => Arc::clone(name),
        }
    }

    /// Reads it from the beginning. It blocks.
    pub(super) fn read(&self, kept: &Kept) -> Reading {
        self.read_as(&Schema::of_gateway(), |top, file: Gateway, source, files| {
            Compiler::new(top, &file, source, files, &self.gates, kept).compile()
        })
    }

    /// As [`read`](Self::read), what a mesh client calls.
    pub(super) fn read_client(&self, kept: &Kept) -> Reading<Calls> {
        let reading = self.read_as(&schema_of::<Client>().into(), |top, file: Client, source, files| {
            let (gateway, rules) = file.parts();
            Compiler::new(top, &gateway, source, files, &self.gates, kept).mesh_client(&rules)
        });
        #[cfg(feature = "prometheus")]
        if let Some(metrics) = &self.metrics {
            let counted = |destination: Destination| destination.counted(metrics);
            let made = |made: Calls| Calls {
                destinations: made.destinations.into_iter().map(counted).collect(),
                ..made
            };
            let compiled =
                reading.compiled.map(|compiled| Compiled { made: made(compiled.made), ..compiled });
            return Reading { compiled, ..reading };
        }
        reading
    }

    /// Reads a file of this shape, and has it compiled.
    fn read_as<F: DeserializeOwned, T>(
        &self,
        schema: &Schema,
        compile: impl FnOnce(At<'_>, F, Option<&Path>, &RefCell<Files>) -> Option<Compiled<T>>,
    ) -> Reading<T> {
        let files = RefCell::new(Files::default());
        let mut faults = Faults::default();
        let name = self.name();
        let (source, text) = match &self.source {
            Source::File(path) => (Some(path.as_path()), files.borrow_mut().read(path)),
            Source::Text { text, .. } => (None, Ok(text.as_bytes().to_vec())),
        };
        let compiled = match text.map(|text| Document::<F>::read(&name, &text, schema)) {
            Ok(Ok(Document { tree, typed, log })) => {
                let compiled = typed.and_then(|file| compile(At::top(&tree, &log), file, source, &files));
                faults = log.into_faults();
                compiled
            }
            Ok(Err(malformed)) => {
                faults = malformed;
                None
            }
            Err(error) => {
                faults.of_file(&name, error);
                None
            }
        };
        faults.sort();
        Reading { compiled: compiled.filter(|_| !faults.refuse()), faults, files: files.into_inner() }
    }
}

/// What came of reading a configuration.
pub(super) struct Reading<T = Snapshot> {
    /// Nothing, if it is refused.
    pub(super) compiled: Option<Compiled<T>>,
    /// Why, or warnings.
    pub(super) faults: Faults,
    /// What it was read from.
    pub(super) files: Files,
}

/// What a check found. It shows as what `gateway check` prints: what is wrong, one fault a line, then whether it is
/// accepted, and which of its rules are public, and of its TCP routes.
#[derive(Debug, Clone)]
pub struct Check {
    name: Arc<str>,
    faults: Faults,
    rules: Vec<RuleFacts>,
    /// Routes for something else than HTTP by which strangers get somewhere.
    open: Vec<Box<str>>,
}

impl Check {
    /// Whether it is accepted. There may be warnings.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        !self.faults.refuse()
    }

    /// What is wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The rules, if it is accepted.
    #[must_use]
    pub fn rules(&self) -> &[RuleFacts] {
        &self.rules
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.faults.is_empty() {
            writeln!(f, "{}", self.faults)?;
        }
        if !self.is_accepted() {
            return write!(f, "{}: refused", self.name);
        }
        write!(f, "{}: accepted", self.name)?;
        let mut public = self.rules.iter().filter(|rule| rule.public).peekable();
        if public.peek().is_none() && self.open.is_empty() {
            return write!(f, "; no rule is public");
        }
        write!(f, "; public rules, which ask nobody who they are:")?;
        public.try_for_each(|rule| write!(f, "\n  {}", rule.name))?;
        self.open.iter().try_for_each(|route| write!(f, "\n  {route} (TCP)"))
    }
}

/// The JSON Schema of the file, for editors: `docs/gateway.schema.json`.
#[must_use]
pub fn schema() -> String {
    gateway_schema()
}
