use super::*;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{Mode, Refusal};
use proptest::prelude::*;

/// A configuration that requests change by the manager's rules; what breaks a rule is refused.
struct Model(BootConfig);

fn refused(what: String) -> Failure {
    Failure::Refused(Refusal {
        what,
        help: String::new(),
    })
}

impl Model {
    fn brane(&mut self, name: &str) -> Result<&mut BraneBoot, Failure> {
        let found = self.0.branes.iter_mut().find(|b| b.name == name);
        found.ok_or_else(|| refused(format!("no brane {name}")))
    }

    fn device(&mut self, name: &str) -> Result<&mut DeviceConfig, Failure> {
        let found = self.0.devices.iter_mut().find(|d| d.name == name);
        found.ok_or_else(|| refused(format!("no device {name}")))
    }

    fn add(&mut self, config: DeviceConfig) -> Result<(), Failure> {
        if self.0.device(&config.name).is_some() {
            return Err(refused(format!("{} is taken", config.name)));
        }
        if config.mac.is_some() && self.0.devices.iter().any(|d| d.mac == config.mac) {
            return Err(refused(format!("{:?} is taken", config.mac)));
        }
        self.0.devices.push(config);
        Ok(())
    }
}

impl Operator for Model {
    fn call(&mut self, request: &Request) -> Result<Answer, Failure> {
        match request.clone() {
            Request::Save => return Ok(Answer::Saved(self.0.to_bytes())),
            Request::Create {
                name,
                families,
                start,
            } => {
                if self.brane(&name).is_ok() {
                    return Err(refused(format!("{name} is taken")));
                }
                self.0.branes.push(BraneBoot {
                    name,
                    families,
                    held: !start,
                    ..BraneBoot::default()
                });
            }
            Request::Start(name) => {
                let b = self.brane(&name)?;
                if !b.held {
                    return Err(refused(format!("{name} is started")));
                }
                b.held = false;
            }
            Request::Shutdown { name, .. } => self.brane(&name)?.held = true,
            Request::Delete { name, .. } => {
                if self.brane(&name)?.primary {
                    return Err(refused("the primary brane stays".into()));
                }
                self.0.branes.retain(|b| b.name != name);
            }
            Request::Assign {
                device,
                brane,
                interface,
                addressing,
            } => {
                let mac = self.device(&device)?.mac.unwrap_or_default();
                for b in &mut self.0.branes {
                    b.interfaces.retain(|i| i.device != device);
                }
                let b = self.brane(&brane)?;
                let (name, a) = (interface.unwrap(), addressing.unwrap());
                if b.interfaces.iter().any(|i| i.name == name) || b.interfaces.len() == 2 {
                    return Err(refused(format!("{brane} has no room for {name}")));
                }
                b.interfaces.push(InterfaceConfig {
                    name,
                    device,
                    port: 0,
                    mac,
                    addresses: a.addresses,
                    gateway4: a.gateway4,
                    gateway6: a.gateway6,
                    dhcp4: a.dhcp4,
                    slaac: a.slaac,
                });
            }
            Request::Remove(device) => {
                if place(&self.0, &device).is_none() {
                    return Err(refused(format!("{device} is at home")));
                }
                for b in &mut self.0.branes {
                    b.interfaces.retain(|i| i.device != device);
                }
            }
            Request::Adjust {
                brane,
                interface,
                addressing: a,
            } => {
                let b = self.brane(&brane)?;
                let found = b.interfaces.iter_mut().find(|i| i.name == interface);
                let i = found.ok_or_else(|| refused(format!("no {interface}")))?;
                (i.addresses, i.gateway4, i.gateway6, i.dhcp4, i.slaac) =
                    (a.addresses, a.gateway4, a.gateway6, a.dhcp4, a.slaac);
            }
            Request::Limit {
                device,
                mode,
                allow,
                rate_up,
                rate_down,
            } => {
                let d = self.device(&device)?;
                d.mode = mode.unwrap_or(d.mode);
                d.allow = allow.unwrap_or(d.allow.clone());
                let rate = |now: Option<u64>, new: Option<u64>| new.map_or(now, |r| (r != 0).then_some(r));
                (d.rate_up, d.rate_down) = (rate(d.rate_up, rate_up), rate(d.rate_down, rate_down));
            }
            Request::AddDevice(config) => {
                if let Kind::Pair(peer) = &config.kind {
                    self.add(DeviceConfig {
                        name: peer.clone(),
                        kind: Kind::Pair(config.name.clone()),
                        nic: config.nic,
                        ..DeviceConfig::default()
                    })?;
                }
                self.add(config)?;
            }
            Request::DeleteDevice(name) => {
                let kind = self.device(&name)?.kind.clone();
                let mut ends = vec![name];
                if let Kind::Pair(peer) = kind {
                    ends.push(peer);
                }
                if let Some(end) = ends.iter().find(|e| place(&self.0, e).is_some()) {
                    return Err(refused(format!("{end} has an owner")));
                }
                self.0.devices.retain(|d| !ends.contains(&d.name));
            }
            other => return Err(refused(format!("not here: {other:?}"))),
        }
        Ok(Answer::Done(String::new()))
    }
}

/// Systems over the same few names, so that two of them have much to disagree about.
fn configs() -> impl Strategy<Value = BootConfig> {
    let device = (
        0u8..4,
        any::<bool>(),
        proptest::option::of(0usize..4),
        0u8..3,
        0usize..2,
        proptest::option::of(1u64..9),
    );
    let brane = (any::<[bool; 3]>(), any::<bool>());
    (
        proptest::collection::vec(device, 6),
        proptest::collection::vec(brane, 4),
    )
        .prop_map(|(devices, branes)| {
            let mut config = BootConfig::default();
            for (n, (flags, exists)) in branes.into_iter().enumerate() {
                if exists || n == 0 {
                    let families = all_families()[..1].to_vec();
                    config.branes.push(BraneBoot {
                        name: format!("b{n}"),
                        primary: n == 0,
                        held: flags[0],
                        families: (n != 0 && flags[1]).then_some(families),
                        interfaces: vec![],
                    });
                }
            }
            for (n, (kind, flag, owner, address, iface, rate)) in devices.into_iter().enumerate() {
                let kind = match (kind, n) {
                    (0, _) => continue,
                    // The last two are the ends of a wire, or nothing.
                    (_, 4) if flag => Kind::Pair("d4p".into()),
                    (1, _) => Kind::Vlan(7),
                    _ => Kind::Vnic,
                };
                let name = format!("d{n}");
                let pair = matches!(kind, Kind::Pair(_));
                let mut ends = vec![DeviceConfig {
                    name: name.clone(),
                    kind,
                    mac: (!pair).then_some(MacAddr([2, 0, 0, 0, u8::from(flag), n as u8])),
                    mode: if flag { Mode::Private } else { Mode::Bridge },
                    rate_up: rate,
                    ..DeviceConfig::default()
                }];
                if pair {
                    ends.push(DeviceConfig {
                        name: "d4p".into(),
                        kind: Kind::Pair(name.clone()),
                        rate_down: rate,
                        ..DeviceConfig::default()
                    });
                }
                for end in ends {
                    if let Some(b) = owner.and_then(|o| config.branes.get_mut(o)) {
                        let local = format!("net{iface}");
                        if b.interfaces.len() < 2 && b.interfaces.iter().all(|i| i.name != local) {
                            b.interfaces.push(InterfaceConfig {
                                name: local,
                                device: end.name.clone(),
                                mac: end.mac.unwrap_or_default(),
                                addresses: vec![Cidr {
                                    ip: [10, 0, address, 1].into(),
                                    prefix: 24,
                                }],
                                slaac: flag,
                                ..InterfaceConfig::default()
                            });
                        }
                    }
                    config.devices.push(end);
                }
            }
            config
        })
}

fn sorted(mut config: BootConfig) -> BootConfig {
    config.branes.sort_by(|a, b| a.name.cmp(&b.name));
    config.devices.sort_by(|a, b| a.name.cmp(&b.name));
    for b in &mut config.branes {
        b.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    }
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn carried_out_in_order_the_plan_leads_from_any_system_to_any_other(now in configs(), wanted in configs()) {
        let plan = plan(&now, &wanted).unwrap();
        let mut system = Model(now);
        for request in &plan {
            if let Err(e) = system.call(request) {
                return Err(TestCaseError::fail(format!("{request:?}: {e:?}\n{plan:#?}")));
            }
            // Each can be shown as a line that a person could type.
            prop_assert!(brane_manager_api::spell::line(request).is_some());
        }
        prop_assert_eq!(sorted(running(&mut system).unwrap()), sorted(wanted.clone()));
        prop_assert_eq!(super::plan(&system.0, &wanted).unwrap(), []);
    }
}

fn shipped() -> BootConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../brane-manager/branes.toml");
    branes_bootconfig::load(path.as_ref(), 17).unwrap()
}

#[test]
fn what_was_saved_changes_nothing() {
    let now = shipped();
    let text = branes_bootconfig::to_toml(&now);
    let wanted = branes_bootconfig::parse("saved.toml".as_ref(), &text, 17).unwrap();
    assert_eq!(plan(&now, &wanted), Ok(vec![]));
}

#[test]
fn what_cannot_change_while_it_runs_is_said() {
    let now = shipped();
    let mut other = now.clone();
    other.branes[0].primary = false;
    other.branes[1].primary = true;
    assert_eq!(
        plan(&now, &other).unwrap_err().to_string(),
        "the primary brane cannot change in a running system: write it into the boot configuration and start the system \
         anew"
    );
    let mut other = now.clone();
    other.branes[0].families = Some(vec![]);
    let error = plan(&now, &other).unwrap_err().to_string();
    assert!(
        error.starts_with("the families of the primary brane main cannot change"),
        "{error}"
    );
}

#[test]
fn the_difference_is_shown_as_commands_in_a_safe_order() {
    let now = shipped();
    let text = branes_bootconfig::to_toml(&now)
        .replace("name = \"blue\"", "name = \"green\"")
        .replace("[\"10.0.2.16/24\", ", "[\"10.0.2.66/24\", ")
        + "[[device]]\nname = \"office\"\nkind = \"vlan\"\ntag = 12\n";
    let wanted = branes_bootconfig::parse("new.toml".as_ref(), &text, 17).unwrap();
    let plan = plan(&now, &wanted).unwrap();
    let lines: Vec<String> = plan.iter().filter_map(brane_manager_api::spell::line).collect();
    assert_eq!(
        lines,
        [
            "branectl delete blue --deadline 5000ms",
            "nicctl create vlan office --tag 12",
            "branectl create green",
            "branectl address red/net0 10.0.2.66/24 fec0::16/64 --gateway4 10.0.2.2 --slaac",
            "branectl assign vnic2 green 10.0.2.17/24 fec0::17/64 --gateway4 10.0.2.2 --slaac --as net0",
            "branectl start green",
        ]
    );
}
