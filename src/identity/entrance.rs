use http::uri::Scheme;

/// By which scheme and at which port a client has come in, in a request's extensions where somebody sends clients back there.
///
/// ```
/// use http::uri::Scheme;
/// use portcullis::identity::Entrance;
///
/// let entrance = Entrance::new(Scheme::HTTPS, 8443);
/// assert_eq!((entrance.scheme(), entrance.port()), (&Scheme::HTTPS, Some(8443)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    scheme: Scheme,
    port: Option<u16>,
}

impl Entrance {
    /// This scheme, and this port; without one it is that of the host that the client has asked for.
    #[must_use]
    pub fn new(scheme: Scheme, port: impl Into<Option<u16>>) -> Self {
        Self { scheme, port: port.into() }
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The port, unless it is that of the host that the client has asked for.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}
