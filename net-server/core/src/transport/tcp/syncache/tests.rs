use super::*;
use crate::family::Account;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use std::vec::Vec;

const SECOND: u64 = 1_000_000_000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn cache() -> SynCache {
    let mut cache = SynCache::new(&mut ChaCha12Rng::from_seed([5; 32]));
    cache.create(&mut Account::default().purchase()).unwrap();
    cache
}

fn flow(host: u8, port: u16) -> FlowKey {
    FlowKey {
        netif: 1,
        local: IpAddress::v4(10, 0, 2, 15),
        remote: IpAddress::v4(10, 0, 2, host),
        local_port: 80,
        remote_port: port,
    }
}

fn numbers(seq: u32, ack: u32) -> Numbers {
    Numbers { seq, ack }
}

fn completes(cache: &SynCache, now: u64, key: &FlowKey, handshake: Handshake) -> Acknowledged {
    let ack = handshake.iss.wrapping_add(1);
    cache.acknowledged(now, key, numbers(handshake.irs.wrapping_add(1), ack))
}

/// An entry of the model.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: FlowKey,
    handshake: Handshake,
    since: u64,
    tries: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Syn(u8, u16, u32),
    Ack(u8, u16, u32, bool),
    Reset(u8, u16, u32),
    Remove(u8, u16),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1u8..5, 0u16..100, 0u32..3).prop_map(|(h, p, i)| Step::Syn(h, p, i)),
        2 => (1u8..5, 0u16..100, 0u32..3, any::<bool>()).prop_map(|(h, p, i, r)| Step::Ack(h, p, i, r)),
        1 => (1u8..5, 0u16..100, 0u32..4).prop_map(|(h, p, i)| Step::Reset(h, p, i)),
        1 => (1u8..5, 0u16..100).prop_map(|(h, p)| Step::Remove(h, p)),
        1 => (0u64..3 * SECOND).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The queue against a list, and every answer, from the queue or by a cookie, is good for its connection alone.
    #[test]
    fn the_queue_behaves_as_a_list_does(steps in steps()) {
        let mut cache = cache();
        let (mut now, mut model) = (SECOND, Vec::<Known>::new());
        for step in steps {
            let find = |model: &[Known], key: &FlowKey| model.iter().position(|k| k.key == *key);
            match step {
                Step::Syn(host, port, irs) => {
                    let key = flow(host, port);
                    let options = Options { mss: 1460, scale: Some(7), sack: true };
                    let known = find(&model, &key).map(|at| model[at].handshake);
                    let of_host = model.iter().filter(|k| k.key.remote == key.remote).count();
                    let room = model.len() < QUEUE && of_host < usize::from(QUEUE_FOR_SOURCE);
                    let (handshake, is_cookie) = cache.syn(now, &key, irs, options, MAC);
                    prop_assert_eq!((handshake.irs, handshake.options), (irs, options));
                    match known {
                        Some(known) if known.irs == irs => prop_assert_eq!((handshake, is_cookie), (known, false)),
                        None if room => {
                            prop_assert!(!is_cookie);
                            model.push(Known { key, handshake, since: now, tries: 0 });
                        }
                        _ => prop_assert!(is_cookie),
                    }
                    prop_assert_eq!(completes(&cache, now, &key, handshake), Acknowledged::Stands(handshake));
                    let other = flow(host + 10, port);
                    prop_assert_eq!(completes(&cache, now, &other, handshake), Acknowledged::Unknown);
                }
                Step::Ack(host, port, off, remove) => {
                    let key = flow(host, port);
                    if let Some(at) = find(&model, &key) {
                        let Handshake { irs, iss, .. } = model[at].handshake;
                        let answer = cache.acknowledged(now, &key, numbers(irs.wrapping_add(off), iss.wrapping_add(1)));
                        let expected = if off == 0 { Acknowledged::OutOfWindow } else { Acknowledged::Stands(model[at].handshake) };
                        prop_assert_eq!(answer, expected);
                        let wrong = numbers(irs.wrapping_add(1), iss.wrapping_add(2));
                        prop_assert_eq!(cache.acknowledged(now, &key, wrong), Acknowledged::Unknown);
                        if remove && off != 0 {
                            cache.remove(&key);
                            model.remove(at);
                        }
                    }
                }
                Step::Reset(host, port, seq) => {
                    let key = flow(host, port);
                    let at = find(&model, &key);
                    prop_assert_eq!(cache.reset(&key, seq), at.is_some());
                    if let Some(at) = at.filter(|at| model[*at].handshake.irs + 1 == seq) {
                        model.remove(at);
                    }
                }
                Step::Remove(host, port) => {
                    cache.remove(&flow(host, port));
                    model.retain(|k| k.key != flow(host, port));
                }
                Step::Wait(time) => {
                    now += time;
                    let mut sent = Vec::new();
                    cache.expire(now, |key, entry| {
                        sent.push((key.remote_port, entry.handshake.iss));
                        true
                    });
                    let mut expected = Vec::new();
                    model.retain_mut(|known| {
                        if now >= known.since + (SECOND << known.tries) {
                            (known.since, known.tries) = (now, known.tries + 1);
                            if known.tries > RETRIES {
                                return false;
                            }
                            expected.push((known.key.remote_port, known.handshake.iss));
                        }
                        true
                    });
                    sent.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(sent, expected);
                }
            }
            prop_assert_eq!(cache.len(), model.len());
            let earliest = model.iter().map(|k| k.since + (SECOND << k.tries)).min().unwrap_or(u64::MAX);
            prop_assert!(cache.deadline() <= earliest, "an entry would be forgotten");
            let counted: usize = cache.counts.iter().map(|n| usize::from(*n)).sum();
            prop_assert_eq!(counted, model.len());
        }
    }
}

#[test]
fn a_full_queue_answers_with_cookies_and_keeps_nothing() {
    let mut cache = cache();
    let mut answers = Vec::new();
    for n in 0..2000u16 {
        let key = flow((n % 250) as u8, n);
        let options = Options {
            mss: 1460,
            scale: Some((n % 15) as u8),
            sack: n % 2 == 0,
        };
        let (handshake, is_cookie) = cache.syn(SECOND, &key, u32::from(n) * 77, options, MAC);
        assert_eq!(is_cookie, n >= QUEUE as u16);
        answers.push((key, handshake));
    }
    assert_eq!(cache.len(), QUEUE);
    // All of them are good, wherever the brane has them from.
    for (key, handshake) in &answers {
        assert_eq!(
            completes(&cache, 2 * SECOND, key, *handshake),
            Acknowledged::Stands(*handshake)
        );
    }
    let (key, last) = answers[1999];
    // Cookies are old after two periods.
    assert_eq!(
        completes(&cache, SECOND + 2 * cookie::PERIOD, &key, last),
        Acknowledged::Unknown
    );
}

#[test]
fn one_source_does_not_take_the_whole_queue() {
    let mut cache = cache();
    for port in 0..1000 {
        cache.syn(SECOND, &flow(9, port), 1, Options::default(), MAC);
    }
    assert_eq!(cache.len(), usize::from(QUEUE_FOR_SOURCE));
    let (_, is_cookie) = cache.syn(SECOND, &flow(8, 1), 1, Options::default(), MAC);
    assert!(!is_cookie, "another source finds no place");
}

#[test]
fn no_cookie_counts_while_none_was_given() {
    let cache = cache();
    let key = flow(3, 3);
    let made = cookie::make(&cache.secret, SECOND, &key, 7, Options::default());
    let (irs, iss) = (7, made);
    let handshake = Handshake {
        irs,
        iss,
        options: Options::default(),
    };
    assert_eq!(completes(&cache, SECOND, &key, handshake), Acknowledged::Unknown);
}

#[test]
fn an_answer_is_sent_again_three_times_and_then_forgotten() {
    let mut cache = cache();
    cache.syn(0, &flow(1, 1), 1, Options::default(), MAC);
    let mut times = Vec::new();
    for tenth in 0..300 {
        let now = tenth * SECOND / 10;
        cache.expire(now, |_, _| {
            times.push(now / SECOND);
            true
        });
    }
    assert_eq!(times, [1, 3, 7]);
    assert!(cache.is_empty() && cache.deadline() == u64::MAX);
}

#[test]
fn an_entry_whose_listener_is_gone_goes_too() {
    let mut cache = cache();
    cache.syn(0, &flow(1, 1), 1, Options::default(), MAC);
    cache.expire(SECOND, |_, _| false);
    assert!(cache.is_empty() && cache.counts.iter().all(|n| *n == 0));
}
