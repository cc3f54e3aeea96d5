//! Frames from a plain socket, read without the library's transport.
#![forbid(unsafe_code)]

use freight::wire::HEADER_BYTES;
use std::io::{Error, ErrorKind, Read};

/// The next frame; `None` at the end of the connection.
pub(crate) fn read_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES as usize];
    match stream.read_exact(&mut frame) {
        Ok(()) => {}
        Err(error) if is_end(&error) => return None,
        Err(error) => panic!("{error}"),
    }
    let whole = u32::from_le_bytes(*frame[8..].first_chunk().expect("a length"));
    frame.resize(whole as usize, 0);
    stream.read_exact(&mut frame[HEADER_BYTES as usize..]).expect("whole frames are sent");
    Some(frame)
}

fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
