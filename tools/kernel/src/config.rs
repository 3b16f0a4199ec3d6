//! The kernel's configuration: changes to the settings that come with the sources, and the reason for each.

use std::fs;
use std::path::Path;

use crate::{Error, Flavour};

/// The configuration header that the kernel reads, inside its source tree.
pub const AUTOCONF: &str = "include/plat/pc99/autoconf.h";

/// Settings that are removed.
const REMOVED: &[&str] = &[
    // It disables all printing and the multiboot command line.
    "CONFIG_VERIFICATION_BUILD",
    // QEMU's default machine has no IOMMU.
    "CONFIG_IOMMU",
    // QEMU's emulated processor has no INVPCID, without which the kernel stops.
    "CONFIG_SUPPORT_PCID",
    // CONFIG_XAPIC replaces it: QEMU 7.2's emulation has no x2APIC.
    "CONFIG_X2APIC",
];

/// Settings for both flavours.
const COMMON: &[(&str, &str)] = &[
    ("CONFIG_XAPIC", "1"),
    // The tick only divides time between protection domains of equal priority, since deadlines come from the
    // HPET. Each tick is a kernel entry, so it is slower than the packaged 2 ms.
    ("CONFIG_TIMER_TICK_MS", "5"),
    ("CONFIG_TIME_SLICE", "1"),
    ("CONFIG_ROOT_CNODE_SIZE_BITS", "16"),
    // Number of kernel exits after which a thread loses the floating-point registers if no other thread
    // wanted them. Here they change their owner at each thread switch (see the corrections), so a loss would
    // only cost a trap to restore them.
    ("CONFIG_FPU_MAX_RESTORES_SINCE_SWITCH", "1000000"),
];

/// Settings for the debug flavour alone. `CONFIG_DEBUG_BUILD` is missing because this version does not
/// compile with it.
const DEBUG: &[(&str, &str)] = &[
    ("CONFIG_PRINTING", "1"),
    ("CONFIG_IRQ_REPORTING", "1"),
    ("CONFIG_USER_STACK_TRACE_LENGTH", "16"),
];

/// Returns the configuration header of a flavour: the packaged one with the changes above.
pub fn autoconf(source: &Path, flavour: Flavour) -> Result<String, Error> {
    let file = source.join(AUTOCONF);
    let packaged = fs::read_to_string(&file).map_err(|e| Error::file("read", &file, e))?;
    for &name in REMOVED {
        let found = packaged
            .lines()
            .filter(|line| defined_name(line) == Some(name))
            .count();
        if found != 1 {
            return Err(Error::UnexpectedSource {
                file,
                expected: name,
                found,
            });
        }
    }
    Ok(changed(&packaged, flavour))
}

fn changed(packaged: &str, flavour: Flavour) -> String {
    let flavoured = match flavour {
        Flavour::Debug => DEBUG,
        Flavour::Release => &[],
    };
    let settings = || COMMON.iter().chain(flavoured);
    let replaced = |name: &str| REMOVED.contains(&name) || settings().any(|&(set, _)| set == name);
    let kept = packaged
        .lines()
        .filter(|line| !defined_name(line).is_some_and(replaced))
        .map(str::to_owned);
    let added = settings().map(|(name, value)| format!("#define {name} {value}"));
    let mut text = kept.chain(added).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// Returns the name that a `#define` line defines.
fn defined_name(line: &str) -> Option<&str> {
    line.strip_prefix("#define ")?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGED: &str =
        "/* made */\n#define CONFIG_X2APIC 1\n#define CONFIG_TIMER_TICK_MS 2\n#define CONFIG_FASTPATH 1\n";

    fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines()
            .filter(|line| defined_name(line) == Some(name))
            .filter_map(|line| line.split_whitespace().nth(2))
            .collect()
    }

    #[test]
    fn each_setting_is_there_once() {
        for flavour in [Flavour::Debug, Flavour::Release] {
            let text = changed(PACKAGED, flavour);
            assert_eq!(values(&text, "CONFIG_X2APIC"), Vec::<&str>::new());
            assert_eq!(values(&text, "CONFIG_XAPIC"), ["1"]);
            assert_eq!(values(&text, "CONFIG_TIMER_TICK_MS"), ["5"]);
            assert_eq!(values(&text, "CONFIG_FASTPATH"), ["1"]);
        }
    }

    #[test]
    fn only_the_debug_flavour_prints() {
        assert_eq!(
            values(&changed(PACKAGED, Flavour::Debug), "CONFIG_PRINTING"),
            ["1"]
        );
        assert_eq!(
            values(&changed(PACKAGED, Flavour::Release), "CONFIG_PRINTING"),
            Vec::<&str>::new()
        );
    }
}
