use std::sync::OnceLock;

use super::token::Header;

/// Headers of tokens, read already: all tokens that a key signs have the same one.
///
/// The first few that came with a valid signature are kept for as long as the key set is, each under its text, byte by byte.
/// They are what would be read there, and no more: what a token's header asks for is checked each time.
#[derive(Debug, Default)]
pub(super) struct Headers([OnceLock<Known>; Self::MOST]);

#[derive(Debug)]
struct Known {
    text: Box<str>,
    header: Header<'static>,
}

impl Headers {
    pub(super) const MOST: usize = 8;
    /// Longer ones are read each time.
    pub(super) const LONGEST: usize = 512;

    pub(super) fn find(&self, text: &str) -> Option<&Header<'static>> {
        let known = self.0.iter().map_while(OnceLock::get).find(|known| *known.text == *text)?;
        Some(&known.header)
    }

    /// Keeps the header that stands in `text`, if there is room.
    pub(super) fn keep(&self, text: &str, header: &Header<'_>) {
        let is_full = self.0.last().is_none_or(|last| last.get().is_some());
        if is_full || text.len() > Self::LONGEST {
            return;
        }
        let mut fresh = Known { text: text.into(), header: header.to_static() };
        for place in &self.0 {
            match place.set(fresh) {
                Ok(()) => return,
                // Another thread was faster.
                Err(_) if place.get().is_some_and(|known| *known.text == *text) => return,
                Err(back) => fresh = back,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map_while(OnceLock::get).count()
    }
}
