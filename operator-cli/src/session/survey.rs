//! `why` and `reach` in a session. The survey owns the answers; this module shows its result.

use super::{End, Output, Part, Session, Step};
use crate::error::Error;
use crate::reach::Next;
use crate::table_layout::printable;
use brane_abi::operator::{Answer, Refusal};

impl Session {
    /// Executes the next step of `why` or `reach`.
    pub(super) fn survey(
        &mut self,
        reply: Option<Result<Answer, Refusal>>,
        out: &mut Output,
    ) -> Result<Step, Error> {
        let Part::Survey(survey) = &mut self.part else {
            return Ok(Step::Done(End::Failure));
        };
        let (text, value, bad) = match survey.step(reply)? {
            Next::Send(request) => return Ok(Step::Send(request)),
            Next::Explained(found) => (found.text(), found.json(), found.stop().is_some()),
            Next::Computed(matrix) => (matrix.text(), matrix.json(), matrix.differs()),
        };
        if self.json {
            self.show_json(&value, out);
        } else {
            out.text += &printable(&text);
        }
        Ok(Step::Done(if bad { End::Failure } else { End::Success }))
    }
}
