//! The stack as the owner of its families and protocols: which object serves a protocol, and the steps of its life cycle.

use super::Stack;
use crate::family::{Owner, Part, Shortage, Stage};
use crate::net::Net;
use crate::protosw::{Place, Protocol, State};
use brane_abi::control::Family;

impl Stack {
    /// Returns the object that serves a protocol, and what it works with.
    pub(super) fn serving(&mut self, place: Place) -> Option<(&mut dyn Protocol, &mut Net)> {
        let Stack {
            net,
            tcp,
            udp,
            icmp,
            igmp,
            mld,
            own,
            ..
        } = self;
        let protocol: &mut dyn Protocol = match place.entry().state {
            State::Tcp => tcp,
            State::Udp => udp,
            State::Icmp => icmp,
            State::Igmp => igmp,
            State::Mld => mld,
            State::Own(_) => {
                let (_, protocol) = own.iter_mut().find(|(at, _)| *at == place)?;
                protocol.as_mut()
            }
        };
        Some((protocol, net))
    }

    /// Calls `visit` once for each object that serves a protocol. Those that clients have sockets of come first.
    pub(crate) fn each(&mut self, mut visit: impl FnMut(&mut dyn Protocol, &mut Net)) {
        let net = &mut self.net;
        visit(&mut self.tcp, net);
        visit(&mut self.udp, net);
        visit(&mut self.icmp, net);
        visit(&mut self.igmp, net);
        visit(&mut self.mld, net);
        for (_, protocol) in &mut self.own {
            visit(protocol.as_mut(), net);
        }
        self.note_own_deadline();
    }

    /// Notes the earliest deadline of group membership and of the protocols with an object of their own. Must be called when one of them has worked.
    pub(super) fn note_own_deadline(&mut self) {
        let own = self.own.iter().map(|(_, protocol)| protocol.deadline());
        let groups = self.igmp.deadline().min(self.mld.deadline());
        self.own_deadline = own.fold(groups, u64::min);
    }

    fn create_protocol(&mut self, place: Place) -> Result<(), Shortage> {
        let mut account = core::mem::take(&mut self.account);
        let created = match self.serving(place) {
            Some((protocol, _)) => protocol.create(place.family(), &mut account),
            None => Ok(()),
        };
        self.account = account;
        self.note_own_deadline();
        created?;
        self.switch.add(place);
        Ok(())
    }

    fn destroy_protocol(&mut self, place: Place) {
        self.switch.remove(place);
        let mut account = core::mem::take(&mut self.account);
        if let Some((protocol, _)) = self.serving(place) {
            protocol.destroy(place.family(), &mut account);
        }
        self.account = account;
        self.note_own_deadline();
    }

    fn mark_protocol(&mut self, place: Place, stage: Stage) {
        self.switch.mark(place, stage);
        if let Some((protocol, _)) = self.serving(place) {
            match stage {
                Stage::Started => protocol.start(place.family()),
                Stage::Draining => protocol.shutdown(place.family()),
                Stage::Created => {}
            }
        }
        self.note_own_deadline();
    }

    fn create_family(&mut self, family: Family) -> Result<(), Shortage> {
        match family {
            Family::Inet => self.inet.create(&mut self.account),
            Family::Inet6 => self.inet6.create(&mut self.account),
        }?;
        for (count, place) in Place::built_in(family).enumerate() {
            if let Err(shortage) = self.create_protocol(place) {
                self.destroy_family(family, count);
                return Err(shortage);
            }
        }
        self.switch.mark_family(family, Some(Stage::Created));
        Ok(())
    }

    /// Destroys a family with the first `count` of its built-in protocols, the last first.
    fn destroy_family(&mut self, family: Family, count: usize) {
        self.switch.mark_family(family, None);
        let created = Place::built_in(family).count().min(count);
        for place in Place::built_in(family)
            .rev()
            .skip(Place::built_in(family).count() - created)
        {
            self.destroy_protocol(place);
        }
        match family {
            Family::Inet => self.inet.destroy(&mut self.account),
            Family::Inet6 => self.inet6.destroy(&mut self.account),
        }
    }
}

impl Owner for Stack {
    fn create(&mut self, part: Part) -> Result<(), Shortage> {
        match part {
            Part(family, None) => self.create_family(family),
            Part(family, Some(protocol)) => match Place::of(family, protocol) {
                Some(place) => self.create_protocol(place),
                None => Ok(()),
            },
        }
    }

    fn mark(&mut self, part: Part, stage: Stage) {
        let Part(family, protocol) = part;
        let Some(protocol) = protocol else {
            self.switch.mark_family(family, Some(stage));
            for place in Place::built_in(family) {
                self.mark_protocol(place, stage);
            }
            return;
        };
        if let Some(place) = Place::of(family, protocol) {
            self.mark_protocol(place, stage);
        }
    }

    fn destroy(&mut self, part: Part) {
        match part {
            Part(family, None) => self.destroy_family(family, usize::MAX),
            Part(family, Some(protocol)) => {
                if let Some(place) = Place::of(family, protocol) {
                    self.destroy_protocol(place);
                }
            }
        }
    }
}
