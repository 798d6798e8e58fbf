//! What a walk would be if the rules that are only observed acted (O6).

use crate::{Rule, Walk};

impl<'r> Walk<'r> {
    /// The same walk with every observed rule in force: in its place among those that match, and
    /// with its `stop`. [`combine`](crate::combine) of it says what would have become of the message.
    ///
    /// Nothing is evaluated anew: rules behind an observed `stop` were walked, and are dropped here.
    #[must_use]
    pub fn as_if_enforced(mut self) -> Self {
        if self.observed.is_empty() {
            return self;
        }
        self.matched.append(&mut self.observed);
        // As walked: the nearest unit first, then file order, which is that of the rules' places in
        // the rule set.
        let depth = |rule: &Rule| rule.org_unit.lineage().count();
        self.matched
            .sort_by_key(|rule| (std::cmp::Reverse(depth(rule)), std::ptr::from_ref(*rule).addr()));
        let stop = self.matched.iter().position(|rule| rule.stop);
        self.matched.truncate(stop.map_or(self.matched.len(), |stop| stop + 1));
        self
    }
}
