use std::{collections::VecDeque, mem};

use bytes::{Bytes, BytesMut};
use http_body::Frame;

/// Data of less than so many bytes is put together: what keeps a frame would take more memory than what it holds.
const SMALL: usize = 1024;
/// Up to so many bytes are put together.
const MOST: usize = 16 * 1024;

/// Frames that were read before somebody wanted them. The memory that it takes is in proportion to the bytes that it holds,
/// into however many frames the peer has cut them.
#[derive(Default)]
pub(super) struct Ahead {
    frames: VecDeque<Frame<Bytes>>,
    /// What comes after these frames, and is still being put together.
    small: BytesMut,
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.small.is_empty()
    }

    pub(super) fn push(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return,
            Ok(data) => data,
            Err(other) => {
                self.settle();
                return self.frames.push_back(other);
            }
        };
        if data.len() >= SMALL {
            self.settle();
            return self.frames.push_back(Frame::data(data));
        }
        // One alone is kept as it is.
        if self.small.is_empty() && !self.begin_with_last() {
            return self.frames.push_back(Frame::data(data));
        }
        self.small.extend_from_slice(&data);
        if self.small.len() >= MOST {
            self.settle();
        }
    }

    /// Begins to put together with the last frame, if it is a small one.
    fn begin_with_last(&mut self) -> bool {
        let is_small = |data: &Bytes| data.len() < SMALL;
        let Some(last) = self.frames.pop_back() else { return false };
        if last.data_ref().is_some_and(is_small) {
            self.small.extend_from_slice(last.data_ref().map_or(&[], |data| data));
            return true;
        }
        self.frames.push_back(last);
        false
    }

    /// Makes a frame of what was put together.
    fn settle(&mut self) {
        if !self.small.is_empty() {
            self.frames.push_back(Frame::data(mem::take(&mut self.small).freeze()));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Frame<Bytes>> {
        if self.frames.is_empty() {
            self.settle();
        }
        self.frames.pop_front()
    }

    /// The first `most` bytes; copied only where they are in more than one piece.
    pub(super) fn first(&mut self, most: usize) -> Bytes {
        self.settle();
        let mut data = self.frames.iter().filter_map(Frame::data_ref);
        if let (Some(only), None) = (data.next(), data.next()) {
            return only.slice(..only.len().min(most));
        }
        let mut bytes = BytesMut::new();
        for data in self.frames.iter().filter_map(Frame::data_ref) {
            let room = most - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ahead: &mut Ahead) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(frame) = ahead.pop() {
            all.extend_from_slice(&frame.into_data().unwrap());
        }
        all
    }

    #[test]
    fn crumbs_are_put_together() {
        let mut ahead = Ahead::default();
        let text: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for byte in &text {
            ahead.push(Frame::data(Bytes::new()));
            ahead.push(Frame::data(Bytes::copy_from_slice(&[*byte])));
        }
        assert!(ahead.frames.len() <= text.len() / MOST + 1, "{}", ahead.frames.len());
        assert_eq!(ahead.first(20_000), text[..20_000]);
        assert_eq!(ahead.first(usize::MAX), text);
        assert_eq!(read(&mut ahead), text);
        assert!(ahead.is_empty());
    }

    #[test]
    fn the_order_stays_and_what_is_large_is_not_copied() {
        let large = Bytes::from(vec![b'l'; SMALL]);
        let mut ahead = Ahead::default();
        for data in [Bytes::from("a"), Bytes::from("b"), large.clone(), Bytes::from("c"), large.clone()] {
            ahead.push(Frame::data(data));
        }
        ahead.push(Frame::data(Bytes::from("d")));
        ahead.push(Frame::data(Bytes::from("e")));
        ahead.push(Frame::trailers(http::HeaderMap::new()));
        let frames: Vec<_> = std::iter::from_fn(|| ahead.pop()).collect();
        let data: Vec<_> = frames.iter().filter_map(Frame::data_ref).collect();
        assert_eq!(data, ["ab".as_bytes(), &large, b"c", &large, b"de"]);
        assert_eq!(data[1].as_ptr(), large.as_ptr());
        assert!(frames.len() == 6 && frames[5].is_trailers());
    }
}
