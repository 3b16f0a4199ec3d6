//! Source (RFC 864, TCP): sends a pattern until the remote closes or resets. A receiver can check its
//! content.
//!
//! The pattern is RFC 864's: line `n` has 72 of the 95 printable ASCII characters in order, then CR LF. It
//! begins with character number `n mod 95`, and the first character follows the last. The pattern repeats
//! after 95 lines of 74 bytes; see [`byte_at`].

use brane_socket::executor::yield_now;
use brane_socket::{Error, TcpStream};
use embassy_futures::select::{Either, select};

const PRINTABLE: usize = 95;
const CHARS: usize = 72;
const LINE: usize = CHARS + 2;

/// Bytes after which the pattern repeats.
pub const PERIOD: usize = PRINTABLE * LINE;

static PATTERN: [u8; PERIOD] = {
    let mut pattern = [0; PERIOD];
    let mut at = 0;
    while at < PERIOD {
        pattern[at] = byte(at);
        at += 1;
    }
    pattern
};

const fn byte(at: usize) -> u8 {
    let (line, column) = (at / LINE, at % LINE);
    match column {
        CHARS => b'\r',
        c if c > CHARS => b'\n',
        c => b' ' + ((line + c) % PRINTABLE) as u8,
    }
}

/// Returns the byte at a position of the stream.
pub fn byte_at(position: u64) -> u8 {
    byte((position % PERIOD as u64) as usize)
}

/// Fills `room` from position `at` of the pattern. Returns the position after it.
fn fill(room: &mut [u8], mut at: usize) -> usize {
    let mut rest = room;
    while !rest.is_empty() {
        let n = rest.len().min(PERIOD - at);
        let (here, later) = rest.split_at_mut(n);
        here.copy_from_slice(&PATTERN[at..at + n]);
        at = (at + n) % PERIOD;
        rest = later;
    }
    at
}

/// Serves one connection. Ends when the remote closes, or when it reads nothing for `limit` nanoseconds.
pub async fn serve(mut stream: TcpStream, limit: u64) -> Result<(), Error> {
    stream.set_timeout(Some(limit));
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let mut at = 0;
        loop {
            let sent = writer.write_with(|room| {
                at = fill(room, at);
                room.len()
            });
            match sent.await {
                Ok(_) => yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let receive = async {
        let mut scrap = [0; 256];
        loop {
            match reader.read(&mut scrap).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // The remote is expected to be silent.
                Err(Error::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    };
    match select(send, receive).await {
        Either::First(error) => Err(error),
        Either::Second(result) => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_rfc() {
        let text: Vec<u8> = (0..2 * PERIOD as u64).map(byte_at).collect();
        let lines: Vec<&str> = std::str::from_utf8(&text)
            .unwrap()
            .split_terminator("\r\n")
            .collect();
        assert_eq!(lines.len(), 190);
        assert_eq!(
            lines[0],
            r##" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"##
        );
        assert_eq!(
            lines[1],
            r##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##
        );
        assert!(lines[94].starts_with("~ !"));
        assert_eq!(lines[95], lines[0]);
    }

    #[test]
    fn filling_in_any_pieces_gives_the_pattern() {
        let (mut at, mut position) = (0, 0u64);
        for len in [1, 73, 74, 7029, 7030, 7031, 20_000, 3] {
            let mut piece = vec![0; len];
            at = fill(&mut piece, at);
            for byte in piece {
                assert_eq!(byte, byte_at(position));
                position += 1;
            }
        }
    }
}
