//! HTTP over a stream in memory.

use super::*;
use core::convert::Infallible;
use proptest::prelude::*;

/// Returns its input in pieces of a given size, and stores the output.
struct Memory<'a> {
    input: &'a [u8],
    piece: usize,
    output: Vec<u8>,
}

impl embedded_io_async::ErrorType for &mut Memory<'_> {
    type Error = Infallible;
}
impl Read for &mut Memory<'_> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Infallible> {
        assert!(!out.is_empty(), "a full buffer must have been answered");
        let n = self.piece.min(out.len()).min(self.input.len());
        let (here, rest) = self.input.split_at(n);
        out[..n].copy_from_slice(here);
        self.input = rest;
        Ok(n)
    }
}
impl Write for &mut Memory<'_> {
    async fn write(&mut self, data: &[u8]) -> Result<usize, Infallible> {
        let n = data.len().min(100);
        self.output.extend_from_slice(&data[..n]);
        Ok(n)
    }
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Returns the server's output for this input, and the number of unread input bytes.
fn talk(input: &[u8], piece: usize) -> (String, usize) {
    let mut memory = Memory {
        input,
        piece,
        output: Vec::new(),
    };
    let page: Rc<[u8]> = vec![b'x'; crate::BODY].into();
    embassy_futures::block_on(serve_body(&mut memory, || page.clone())).unwrap();
    (String::from_utf8(memory.output).unwrap(), memory.input.len())
}

/// Splits the responses like a client: status line, headers, body length. `heads` is true if the requests
/// were HEAD.
fn replies(mut text: &str, heads: bool) -> Vec<(String, Vec<String>, usize)> {
    let mut out = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").expect("a complete head");
        let mut lines = head.split("\r\n").map(String::from);
        let status = lines.next().unwrap();
        let headers: Vec<String> = lines.collect();
        let length = headers
            .iter()
            .find_map(|h| h.strip_prefix("Content-Length: "))
            .unwrap();
        let length: usize = if heads { 0 } else { length.parse().unwrap() };
        assert!(rest.len() >= length, "the body is all there");
        text = &rest[length..];
        out.push((status, headers, length));
    }
    out
}

#[test]
fn a_page_of_1024_bytes_again_and_again() {
    let one = b"GET / HTTP/1.1\r\nHost: brane\r\n\r\n";
    for piece in [1, 7, 31, 4096] {
        let (text, _) = talk(&one.repeat(5), piece);
        let replies = replies(&text, false);
        assert_eq!(replies.len(), 5);
        for (status, headers, length) in replies {
            assert_eq!((status.as_str(), length), ("HTTP/1.1 200 OK", 1024));
            assert!(headers.contains(&"Content-Length: 1024".into()));
            assert!(!headers.iter().any(|h| h.starts_with("Connection")));
        }
    }
}

#[test]
fn head_has_the_length_but_no_body() {
    let (text, _) = talk(
        b"HEAD / HTTP/1.1\r\nHost: b\r\n\r\nHEAD /x HTTP/1.1\r\nHost: b\r\n\r\n",
        4096,
    );
    let replies = replies(&text, true);
    assert_eq!(replies.len(), 2);
    assert!(replies[0].1.contains(&"Content-Length: 1024".into()));
    assert_eq!(replies[1].0, "HTTP/1.1 404 Not Found");
}

#[test]
fn what_ends_the_connection_and_what_does_not() {
    let follow = "GET / HTTP/1.1\r\nHost: b\r\n\r\n";
    for (request, status, stays) in [
        ("GET /other HTTP/1.1\r\nHost: b\r\n\r\n", "404", true),
        ("GET /?query HTTP/1.1\r\nHost: b\r\n\r\n", "200", true),
        ("GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "200", true),
        ("GET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n", "200", true),
        ("GET http://b/x?/ HTTP/1.1\r\nHost: b\r\n\r\n", "404", true),
        ("\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n", "200", true),
        ("DELETE / HTTP/1.1\r\nHost: b\r\n\r\n", "405", true),
        (
            "GET / HTTP/1.1\r\nHost: b\r\nConnection: foo, Close\r\n\r\n",
            "200",
            false,
        ),
        ("GET / HTTP/1.0\r\n\r\n", "200", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200", true),
        (
            "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\n",
            "405",
            false,
        ),
        (
            "GET / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n",
            "200",
            false,
        ),
        ("GET / HTTP/1.1\r\n\r\n", "400", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", false),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505", false),
        ("\u{1}\u{2}\u{3}\r\n\r\n", "400", false),
        ("GET /\r\n\r\n", "400", false),
        ("GET / HTTP/1.1\r\nNo colon here\r\n\r\n", "400", false),
    ] {
        let (text, _) = talk(format!("{request}{follow}").as_bytes(), 4096);
        let replies = replies(&text, false);
        assert_eq!(replies[0].0.split(' ').nth(1), Some(status), "{request:?}");
        assert_eq!(replies.len(), if stays { 2 } else { 1 }, "{request:?}");
        assert_eq!(
            replies[0].1.contains(&"Connection: close".into()),
            !stays,
            "{request:?}"
        );
    }
}

#[test]
fn heads_are_bounded_in_bytes_and_lines() {
    let long = format!(
        "GET / HTTP/1.1\r\nHost: b\r\nCookie: {}\r\n\r\n",
        "c".repeat(5000)
    );
    let (text, left) = talk(long.as_bytes(), 100);
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    assert!(left > 900, "the rest is not read");
    let many = format!(
        "GET / HTTP/1.1\r\nHost: b\r\n{}\r\n",
        "A: b\r\n".repeat(HEADER_LIMIT)
    );
    assert!(talk(many.as_bytes(), 100).0.starts_with("HTTP/1.1 431 "));
    let just = format!(
        "GET / HTTP/1.1\r\nHost: b\r\n{}\r\n",
        "A: b\r\n".repeat(HEADER_LIMIT - 1)
    );
    assert!(talk(just.as_bytes(), 100).0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn lengths_of_short_bodies_are_right() {
    use Answer::*;
    for answer in [
        NotFound,
        MethodNotAllowed,
        BadRequest,
        HeadTooLarge,
        VersionNotSupported,
    ] {
        for close in [false, true] {
            let line = format!("Content-Length: {}\r\n", short_body(answer).len());
            assert!(head(answer, close).contains(&line), "{answer:?}: {line}");
        }
    }
}

proptest! {
    #[test]
    fn no_input_harms(input in prop::collection::vec(any::<u8>(), 0..6000), piece in 1usize..5000) {
        talk(&input, piece);
    }

    #[test]
    fn a_mutated_request_gets_whole_replies(at in 0usize..87, byte in any::<u8>(), piece in 1usize..100) {
        let mut input = b"GET / HTTP/1.1\r\nHost: brane\r\nConnection: keep-alive\r\n\r\nGET /x HTTP/1.1\r\nHost: brane\r\n\r\n".to_vec();
        input[at] = byte;
        let (text, _) = talk(&input, piece);
        // They must be well-formed, with any content. One changed byte cannot produce HEAD.
        replies(&text, false);
    }
}
