use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::ProxyHeader;

/// Reads a header, and gives back the bytes that came with it but are not part of it.
pub(crate) async fn read_header<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<(ProxyHeader, Bytes)> {
    let mut bytes = BytesMut::with_capacity(ProxyHeader::MAX_LENGTH);
    loop {
        // The buffer never has to grow: a header that fills it is refused by `parse`.
        let room = ProxyHeader::MAX_LENGTH.saturating_sub(bytes.len()) as u64;
        if (&mut *io).take(room).read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = ProxyHeader::parse(&bytes)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        if let Some(header) = parsed {
            let rest = bytes.split_off(header.length);
            // A copy, so that a few bytes do not keep the whole buffer.
            return Ok((header, Bytes::copy_from_slice(&rest)));
        }
    }
}
