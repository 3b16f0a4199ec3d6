//! Children by their numbers in `system.xml`.

use crate::{BraneId, Child, FilterId, OperatorId, SubscriberId};

pub const fn brane(number: usize) -> Child {
    Child::Brane(BraneId::new(number))
}

pub const fn client(number: usize) -> Child {
    Child::Client(BraneId::new(number))
}

pub const fn subscriber(number: usize) -> Child {
    Child::Subscriber(SubscriberId::new(number))
}

pub const fn filter(number: usize) -> Child {
    Child::Filter(FilterId::new(number))
}

pub const fn operator(number: usize) -> Child {
    Child::Operator(OperatorId::new(number))
}
