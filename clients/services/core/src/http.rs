//! HTTP/1.1 (RFC 9112) for one page: keep-alive, pipelining, GET and HEAD.
//!
//! **Trust.** Any host may be the client of a connection. A request's head is bounded by [`HEAD_LIMIT`] bytes
//! and [`HEADER_LIMIT`] header lines, and the wait for it by the stream's own time limit.
//! Input that is not HTTP is answered with 400, and the connection is closed. Requests with a body are
//! answered and then closed, so no byte of a body is parsed as a request.

use crate::page::Page;
use alloc::rc::Rc;
use alloc::vec;
use embedded_io_async::{Read, Write};
use httparse::{EMPTY_HEADER, Status};

/// Maximum length of a request head in bytes.
pub const HEAD_LIMIT: usize = 4096;

/// Maximum number of header lines of a request.
pub const HEADER_LIMIT: usize = 32;

/// Kind of response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Page,
    NotFound,
    MethodNotAllowed,
    BadRequest,
    HeadTooLarge,
    VersionNotSupported,
}

/// The properties of a request that the response depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    answer: Answer,
    /// True if the response has no body (HEAD).
    head_only: bool,
    /// True if the connection ends after the response.
    close: bool,
    /// Length of the head in bytes.
    len: usize,
}

/// Parses the bytes received so far. Returns `None` while the head is incomplete.
fn parse(bytes: &[u8]) -> Option<Request> {
    let last = |answer| {
        Some(Request {
            answer,
            head_only: false,
            close: true,
            len: bytes.len(),
        })
    };
    let mut headers = [EMPTY_HEADER; HEADER_LIMIT];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if bytes.len() >= HEAD_LIMIT => return last(Answer::HeadTooLarge),
        Ok(Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => return last(Answer::HeadTooLarge),
        Err(httparse::Error::Version) => return last(Answer::VersionNotSupported),
        Err(_) => return last(Answer::BadRequest),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return last(Answer::BadRequest);
    };
    let mut hosts = 0;
    let (mut close, mut keep, mut body) = (false, false, false);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("host") {
            hosts += 1;
        } else if is("connection") {
            for option in header.value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                close |= option.eq_ignore_ascii_case(b"close");
                keep |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("content-length") {
            body |= header.value != b"0";
        } else if is("transfer-encoding") {
            body = true;
        }
    }
    // RFC 9112, 3.2: a 1.1 request without exactly one Host is answered with 400.
    if version == 1 && hosts != 1 {
        return last(Answer::BadRequest);
    }
    let answer = match (method, path_of(target)) {
        ("GET" | "HEAD", "/") => Answer::Page,
        ("GET" | "HEAD", _) => Answer::NotFound,
        _ => Answer::MethodNotAllowed,
    };
    let close = close || body || (version == 0 && !keep);
    Some(Request {
        answer,
        head_only: method == "HEAD",
        close,
        len,
    })
}

/// Returns the path of a request target without the query. Accepts the absolute form too (RFC 9112, 3.2.2).
fn path_of(target: &str) -> &str {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        None => target,
    };
    match target.split_once('?') {
        Some(("", _)) => "/",
        Some((path, _)) => path,
        None => target,
    }
}

/// Returns the response's head, for a connection that stays open or closes.
fn head(answer: Answer, close: bool) -> &'static str {
    macro_rules! heads {
        ($status:literal, $length:literal $(, $more:literal)*) => {
            if close {
                concat!("HTTP/1.1 ", $status, "\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: ", $length,
                    "\r\n", $($more,)* "Connection: close\r\n\r\n")
            } else {
                concat!("HTTP/1.1 ", $status, "\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: ", $length,
                    "\r\n", $($more,)* "\r\n")
            }
        };
    }
    match answer {
        Answer::Page => heads!("200 OK", 1024),
        Answer::NotFound => heads!("404 Not Found", 23),
        Answer::MethodNotAllowed => heads!("405 Method Not Allowed", 32, "Allow: GET, HEAD\r\n"),
        Answer::BadRequest => heads!("400 Bad Request", 25),
        Answer::HeadTooLarge => heads!("431 Request Header Fields Too Large", 45),
        Answer::VersionNotSupported => heads!("505 HTTP Version Not Supported", 40),
    }
}

/// Returns the body of a response other than the page.
fn short_body(answer: Answer) -> &'static str {
    match answer {
        Answer::Page => "",
        Answer::NotFound => "<h1>404 Not Found</h1>\n",
        Answer::MethodNotAllowed => "<h1>405 Method Not Allowed</h1>\n",
        Answer::BadRequest => "<h1>400 Bad Request</h1>\n",
        Answer::HeadTooLarge => "<h1>431 Request Header Fields Too Large</h1>\n",
        Answer::VersionNotSupported => "<h1>505 HTTP Version Not Supported</h1>\n",
    }
}

/// Serves one connection until either side closes it.
pub async fn serve<S: Read + Write>(stream: S, page: &Page) -> Result<(), S::Error> {
    serve_body(stream, || page.body()).await
}

async fn serve_body<S: Read + Write>(mut stream: S, body: impl Fn() -> Rc<[u8]>) -> Result<(), S::Error> {
    let mut buffer = vec![0; HEAD_LIMIT];
    let mut filled = 0;
    loop {
        // Answers all complete requests, then reads more bytes.
        let mut start = 0;
        while start < filled {
            // httparse ignores empty lines before a request (RFC 9112, 2.2).
            let Some(request) = parse(&buffer[start..filled]) else {
                break;
            };
            start += request.len;
            stream
                .write_all(head(request.answer, request.close).as_bytes())
                .await?;
            if !request.head_only {
                if request.answer == Answer::Page {
                    stream.write_all(&body()).await?;
                } else {
                    stream.write_all(short_body(request.answer).as_bytes()).await?;
                }
            }
            if request.close {
                return stream.flush().await;
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            n => filled += n,
        }
    }
}

#[cfg(test)]
mod tests;
