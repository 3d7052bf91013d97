//! Who can be picked, as it was when the set or somebody's availability last changed.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use tokio::time::Instant;

use super::{order::Order, pool::Dice, roster::Rules, wants::Wants};
use crate::upstream::{
    availability::Withheld, endpoint::Endpoint, group::Place, member::Member, subset::Fallback,
};

/// How many endpoints a request can try: the first and two more.
pub(in super::super) const TRIES: usize = 3;

/// A member of the set, and what is said of it.
#[derive(Clone)]
pub(in super::super) struct Seat {
    pub(in super::super) member: Arc<Member>,
    pub(in super::super) endpoint: Arc<Endpoint>,
}

impl Seat {
    pub(in super::super) fn place(&self) -> Place {
        (self.member.address(), Arc::clone(&self.endpoint))
    }
}

impl PartialEq for Seat {
    /// Whether nothing changes if one takes the place of the other.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.member, &other.member) && self.endpoint == other.endpoint
    }
}

/// The set, and whom of it to pick.
#[derive(Default)]
pub(in super::super) struct Plan {
    /// How often the bell had rung when it was made.
    pub(super) rung: u64,
    pub(in super::super) seats: Box<[Seat]>,
    /// What it had to make ready.
    pub(super) wants: Arc<Wants>,
    whole: Order,
    /// By their marks.
    subsets: HashMap<u64, Order>,
    otherwise: Otherwise,
    /// Places by the names that sessions have for them.
    names: HashMap<u64, usize>,
    /// The thread that has made it.
    #[cfg(test)]
    pub(in super::super) made_by: Option<std::thread::ThreadId>,
}

/// Where a request goes whose subset nobody is in.
#[derive(Clone, Copy, Default)]
enum Otherwise {
    #[default]
    Nowhere,
    Anywhere,
    /// To the subset of this mark.
    To(u64),
}

/// An endpoint, as a session names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Named {
    pub(in super::super) name: u64,
    /// None but this one.
    pub(in super::super) strict: bool,
}

/// What is to be known of a request to pick for it.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Ask<'a> {
    /// Those that it has tried.
    pub(in super::super) tried: Tried,
    /// Those that earlier attempts at the same call have tried, the last one last.
    pub(in super::super) earlier: &'a [SocketAddr],
    /// The hash of its key, if it has that.
    pub(in super::super) hash: Option<u64>,
    /// The mark of the subset that it is for, if it is for one.
    pub(in super::super) subset: Option<u64>,
    /// The endpoint of its session, if it has one.
    pub(in super::super) session: Option<Named>,
    /// The time, if it is known.
    pub(in super::super) now: Option<Instant>,
}

/// The members that a request has tried, by what tells them apart whatever has become of the set.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Tried {
    members: [usize; TRIES],
    len: usize,
}

impl Tried {
    pub(in super::super) fn add(&mut self, member: &Arc<Member>) {
        if let Some(slot) = self.members.get_mut(self.len) {
            *slot = Arc::as_ptr(member).addr();
            self.len += 1;
        }
    }

    /// How many.
    pub(in super::super) fn count(self) -> u8 {
        self.len as u8
    }

    /// Whether no further endpoint is to be tried.
    pub(in super::super) fn is_full(self) -> bool {
        self.len == TRIES
    }

    pub(super) fn has(self, member: &Arc<Member>) -> bool {
        self.members[..self.len].contains(&Arc::as_ptr(member).addr())
    }
}

impl Plan {
    pub(super) fn new(seats: Box<[Seat]>, rules: &Rules, wants: Arc<Wants>, rung: u64) -> Self {
        let stays = |place: &usize| seats[*place].member.state() & Withheld::Draining.bit() == 0;
        let places: Vec<_> = (0..seats.len()).filter(stays).collect();
        let names = wants.names(&seats, &places);
        let subsets = wants.subsets(&seats, &places);
        let subsets = subsets.into_iter().map(|(mark, places)| (mark, Order::new(&seats, places, rules)));
        let subsets = subsets.collect();
        let otherwise = match &rules.subsets.fallback {
            Fallback::None => Otherwise::Nowhere,
            Fallback::Any => Otherwise::Anywhere,
            Fallback::Default(subset) => Otherwise::To(wants.mark(subset.pairs())),
        };
        let whole = Order::new(&seats, places, rules);
        Self {
            rung,
            seats,
            wants,
            whole,
            subsets,
            otherwise,
            names,
            #[cfg(test)]
            made_by: Some(std::thread::current().id()),
        }
    }

    /// Goes on where the plan before it stands.
    pub(super) fn follow(&self, before: &Self) {
        self.whole.follow(&before.whole);
        for (mark, order) in &self.subsets {
            if let Some(before) = before.subsets.get(mark) {
                order.follow(before);
            }
        }
    }

    /// The member for the next try; `None` if all were tried, or nobody is in the subset. That of the session, if it takes
    /// requests, and could be reached, and no attempt was there.
    pub(super) fn pick(&self, ask: &Ask<'_>, dice: &Dice<'_>) -> Option<&Arc<Member>> {
        if let Some(named) = ask.session {
            let fits = |one: &&Arc<Member>| one.availability().takes() && !ask.tried.has(one);
            let own = self.named(named.name, ask.subset).filter(fits);
            if named.strict {
                return own;
            }
            let anew = |one: &&Arc<Member>| !one.rests() && !ask.earlier.contains(&one.address());
            if let Some(own) = own.filter(anew) {
                return Some(own);
            }
        }
        self.order(ask.subset)?.0.pick(ask, dice)
    }

    /// Who has this name in a session, if a request of this mark can go there.
    pub(in super::super) fn named(&self, name: u64, mark: Option<u64>) -> Option<&Arc<Member>> {
        let seat = &self.seats[*self.names.get(&name)?];
        let (_, mark) = self.order(mark)?;
        mark.is_none_or(|mark| self.wants.is_in(seat, mark)).then_some(&seat.member)
    }

    /// Those among whom a request of this mark goes, and the mark of their subset.
    fn order(&self, mark: Option<u64>) -> Option<(&Order, Option<u64>)> {
        let Some(mark) = mark else { return Some((&self.whole, None)) };
        let subset = |mark: u64| Some((self.subsets.get(&mark)?, Some(mark)));
        subset(mark).or_else(|| match self.otherwise {
            Otherwise::Nowhere => None,
            Otherwise::Anywhere => Some((&self.whole, None)),
            Otherwise::To(mark) => subset(mark),
        })
    }

    /// Whether there is nobody for a request of this mark because breakers are open.
    pub(in super::super) fn is_open(&self, mark: Option<u64>) -> bool {
        let Some((_, mark)) = self.order(mark) else { return false };
        let seats = || self.seats.iter().filter(|seat| mark.is_none_or(|mark| self.wants.is_in(seat, mark)));
        let is_open = |seat: &Seat| seat.member.state() & Withheld::Open.bit() != 0;
        seats().any(is_open) && !seats().any(|seat| seat.member.availability().takes())
    }

    /// Whether somebody in it can be picked.
    pub(in super::super) fn takes(&self) -> bool {
        self.usable().any(|member| member.availability().takes())
    }

    /// Those that can be picked.
    pub(in super::super) fn usable(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.whole.usable()
    }
}
