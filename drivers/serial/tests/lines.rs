//! The screen's rules, on the host.

use serial_core::{LINE, LineBuffer, QUEUE, Queue};

fn printed(texts: &[&[u8]]) -> String {
    let (mut line, mut out) = (LineBuffer::default(), Vec::new());
    for text in texts {
        line.feed("red", text, |bytes| out.extend_from_slice(bytes));
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_are_whole_and_named() {
    assert_eq!(printed(&[b"hel", b"lo\nwor"]), "[red] hello\r\n");
    assert_eq!(printed(&[b"a\n\nb\n"]), "[red] a\r\n[red] \r\n[red] b\r\n");
}

#[test]
fn a_log_cannot_imitate_another() {
    assert_eq!(printed(&[b"x\r[blue] y\x1b[2J\n"]), "[red] x?[blue] y?[2J\r\n");
}

#[test]
fn endless_lines_are_cut() {
    let text = printed(&[&[b'z'; 3 * LINE]]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|l| l.len() == LINE + 6));
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut queue = Queue::default();
    queue.push(&[7; QUEUE + 3]);
    assert_eq!((queue.room(), queue.dropped), (0, 3));
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), QUEUE);
}
