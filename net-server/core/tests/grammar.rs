//! A hostile link that speaks by a grammar: the brane does not panic, sends from its own addresses only, and sends nothing that
//! was in its transmit ring before.

mod common;
#[path = "common/grammar.rs"]
mod grammar;

use common::*;
use grammar::Link;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The fuzz target `link` does the same for longer.
    #[test]
    fn no_message_on_the_link_makes_a_brane_panic(bytes in prop::collection::vec(any::<u8>(), 1..3000)) {
        let mut link = Link::new();
        link.run(&bytes, |link| {
            link.sent();
        });
        // A day later all that it has learnt is over or was renewed.
        link.host.clock.0.set(link.host.now() + 86400 * SECOND);
        link.host.settle();
        link.sent();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Two branes that differ in nothing but what their transmit rings held before send the same frames.
    #[test]
    fn no_byte_of_an_old_frame_leaves_again(bytes in prop::collection::vec(any::<u8>(), 1..1500)) {
        let frames = |byte: u8| {
            let (mut link, mut all) = (Link::new(), Vec::new());
            link.host.fill_transmit_rings(byte);
            link.run(&bytes, |link| {
                all.extend(link.sent());
                link.host.fill_transmit_rings(byte);
            });
            all
        };
        let (one, other) = (frames(0x5a), frames(0xa5));
        prop_assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(&other) {
            prop_assert_eq!(one, other);
        }
    }
}
