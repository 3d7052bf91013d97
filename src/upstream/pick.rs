use std::{fmt, net::SocketAddr};

use super::{Upstream, balance::Ask, load::Load};
use crate::{context::Deadline, head::Head};

/// An endpoint that was [picked](Upstream::pick). A request is in flight there until this is dropped.
pub struct Picked(Load);

impl Picked {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.member().address()
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(&self.address()).finish()
    }
}

impl Upstream {
    /// Picks the endpoint for a request that a client of your own sends, in whatever protocol, by the same rules. `None` if
    /// there is none, or the addresses of host names are not known yet ([`warm`](Self::warm) asks for them).
    ///
    /// ```
    /// use http::Request;
    /// use portcullis::{head::Head, upstream::{Balance, Upstream}};
    ///
    /// let stock = Upstream::builder("stock").endpoints(["192.0.2.1:6379", "192.0.2.2:6379"]);
    /// let stock = stock.balance(Balance::LeastRequest).build()?;
    /// let mut request = Request::new(());
    /// let one = stock.pick(&Head::of(&mut request)).unwrap();
    /// let other = stock.pick(&Head::of(&mut request)).unwrap();
    /// assert_ne!(one.address(), other.address());
    /// # Ok::<(), portcullis::upstream::BuildError>(())
    /// ```
    #[must_use]
    pub fn pick(&self, head: &Head<'_>) -> Option<Picked> {
        let (hash, subset) = (self.hash(head), self.marked(head));
        let member = self.next(&*self.plan_now()?, &Ask { hash, subset, ..Ask::default() })?;
        let until = head.extensions().get::<Deadline>().copied();
        Some(Picked(self.begin(member, until)))
    }
}
