//! Owns the rules that operators collect for the replacement of a brane's filter. A request cannot hold a whole filter.
//!
//! Operators are not trusted. Each has at most [`LISTS`] lists, one for each brane. A list is stored as CBOR, which needs
//! less memory than the rules themselves. [`crate::ops`] checks a list before it is stored.

use crate::encode;
use crate::ids::{BraneId, OperatorId};
use alloc::vec::Vec;
use brane_abi::filter::Rule;

/// Maximum number of lists of one operator. Another one displaces the list that was begun first.
pub(crate) const LISTS: usize = 4;

/// The rules that an operator has collected for a brane.
#[derive(Debug)]
struct Staged {
    operator: OperatorId,
    brane: BraneId,
    /// CBOR list of the rules.
    rules: Vec<u8>,
}

/// All lists, in the order in which they were begun.
#[derive(Debug, Default)]
pub(crate) struct Staging(Vec<Staged>);

impl Staging {
    /// Stores a list.
    pub(crate) fn put(&mut self, operator: OperatorId, brane: BraneId, rules: &[Rule]) {
        let own = self.0.iter().filter(|s| s.operator == operator).count();
        if own >= LISTS
            && let Some(oldest) = self.0.iter().position(|s| s.operator == operator)
        {
            self.0.remove(oldest);
        }
        self.0.push(Staged {
            operator,
            brane,
            rules: encode(&rules),
        });
    }

    /// Removes and returns a list. Returns `None` if the operator has collected no rules for the brane.
    pub(crate) fn take(&mut self, operator: OperatorId, brane: BraneId) -> Option<Vec<Rule>> {
        let at = self.position(operator, brane)?;
        minicbor::decode(&self.0.remove(at).rules).ok()
    }

    /// Forgets the lists of a brane that is deleted.
    pub(crate) fn forget_brane(&mut self, brane: BraneId) {
        self.0.retain(|s| s.brane != brane);
    }

    /// Forgets the lists of an operator that has failed.
    pub(crate) fn forget_operator(&mut self, operator: OperatorId) {
        self.0.retain(|s| s.operator != operator);
    }

    fn position(&self, operator: OperatorId, brane: BraneId) -> Option<usize> {
        self.0
            .iter()
            .position(|s| s.operator == operator && s.brane == brane)
    }
}
