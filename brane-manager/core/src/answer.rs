//! Answers to the console's first protocol ([`brane_abi::console`]), in terms of what operators are answered.
//!
//! The console is not trusted: label and argument are checked here, and each answer has a bounded length.

use crate::brane::State;
use crate::driver::Driver;
use crate::manager::{Action, Cx, Manager};
use crate::names::refusal;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::console::{self, Brane, CounterGroup, List, REPLY_SIZE, Stats};
use brane_abi::operator;
use minicbor::Encode;

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to a vector cannot fail, and none of the encoded types refuses.
    let _ = minicbor::encode(value, &mut out);
    out
}

impl Manager {
    /// Serves one call of the console. Returns the reply's label and the text for the region `console-reply`.
    pub fn console(
        &mut self,
        now: u64,
        label: u64,
        argument: &[u8],
        driver: &mut dyn Driver,
        actions: &mut Vec<Action>,
    ) -> (u64, Vec<u8>) {
        let cx = &mut Cx { now, driver, actions };
        let name = String::from_utf8_lossy(argument).into_owned();
        let answer = match label {
            _ if self.boot_error.is_some() && label != console::REFRESH => {
                let why = self.boot_error.clone().unwrap_or_default();
                Err(refusal(
                    format!("no brane is configured: the boot configuration cannot be used: {why}"),
                    "build the image anew with a good one (`boot` in configs.toml)",
                ))
            }
            console::REFRESH => {
                self.refresh(cx);
                Ok(Vec::new())
            }
            console::LIST => {
                let branes = self.list(now).into_iter().map(brane).collect();
                Ok(encode(&List { branes }))
            }
            console::SHOW => self.brane(&name).map(|i| encode(&brane(self.show(i, cx)))),
            console::STATS => {
                let groups = self.stats(cx).into_iter().map(group).collect();
                Ok(encode(&Stats { groups }))
            }
            console::CRASH | console::HANG => self.brane(&name).and_then(|i| {
                let fail = if label == console::CRASH { "fault" } else { "hang" };
                let b = &self.branes[i];
                if b.state != State::Started {
                    return Err(refusal(
                        format!(
                            "brane \"{name}\" is {}, it cannot be made to {fail} now",
                            b.state.word()
                        ),
                        "try again when `list` shows it as started",
                    ));
                }
                match label {
                    console::CRASH => self.crash(i, cx),
                    _ => self.hang(i, cx),
                }
                Ok(Vec::new())
            }),
            other => Err(refusal(
                format!("the manager has no command {other}"),
                "the console and the manager are of different versions: build the image anew",
            )),
        };
        match answer {
            Ok(text) if text.len() <= REPLY_SIZE => (console::OK, text),
            Ok(text) => {
                let what = format!("the answer has {} bytes, {REPLY_SIZE} fit", text.len());
                let why = refusal(what, "ask for one brane with `show NAME`");
                (console::ERROR, encode(&why))
            }
            Err(why) => (console::ERROR, encode(&why)),
        }
    }
}

fn brane(b: operator::Brane) -> Brane {
    Brane {
        id: b.id,
        name: b.name,
        state: b.state,
        restarts: b.restarts,
        last_fault: b.last_fault,
        status: b.status,
        status_age_ms: b.status_age_ms,
        vifs: b.vifs.into_iter().map(group).collect(),
        primary: b.primary,
        recovery_us: b.recovery_us,
    }
}

fn group(g: operator::CounterGroup) -> CounterGroup {
    CounterGroup {
        name: g.name,
        counters: g.counters,
    }
}
