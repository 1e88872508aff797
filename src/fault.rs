//! What goes wrong on purpose: which operations, how often, and how.

use crate::{
    dice::{Dice, Purpose},
    error::Error,
    operation::Operation,
};

/// Which operations fail and how often. One rule today: every operation that can report an error, with one
/// probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Probability, 0 to 1.
    pub probability: f64,
    /// What the program sees.
    pub error: Error,
}

/// What is to become of one operation.
#[expect(missing_docs, reason = "the variants say it")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It goes ahead.
    Pass,
    /// It fails so, before it has any effect; it was the `nth` draw of its kind.
    Fail { error: Error, nth: u64 },
}

/// Decides over operations by rule and dice. Decides only: who asks carries it out and writes the event.
#[derive(Debug)]
pub struct Injector {
    rule: Rule,
}

impl Injector {
    /// An injector under which each operation fails with EIO with this probability.
    pub fn new(probability: f64) -> Injector {
        Injector { rule: Rule { probability, error: Error::InputOutput } }
    }

    /// Whether any operation can ever fail; ask before the cost of naming a path.
    pub fn is_armed(&self) -> bool {
        self.rule.probability > 0.0
    }

    /// Decides over one operation on one path. Nothing is drawn while no rule matches.
    pub fn judge(&self, dice: &Dice, operation: Operation, path: &[u8]) -> Verdict {
        if !self.is_armed() {
            return Verdict::Pass;
        }
        let draw = dice.draw(Purpose::Fault, operation.name(), path);
        if draw.value < self.rule.probability {
            Verdict::Fail { error: self.rule.error, nth: draw.nth }
        } else {
            Verdict::Pass
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probability_zero_draws_nothing_and_one_fails_all() {
        let dice = Dice::new(1, "a");
        assert_eq!(Injector::new(0.0).judge(&dice, Operation::Read, b"/f"), Verdict::Pass);
        let always = Injector::new(1.0).judge(&dice, Operation::Read, b"/f");
        assert_eq!(always, Verdict::Fail { error: Error::InputOutput, nth: 0 });
    }

    #[test]
    fn faults_repeat_per_path_in_any_order_of_paths() {
        let verdicts = |order: &[&[u8]]| {
            let (dice, injector) = (Dice::new(3, "a"), Injector::new(0.4));
            let mut seen: Vec<_> = order
                .iter()
                .map(|path| (path.to_vec(), injector.judge(&dice, Operation::Write, path)))
                .collect();
            seen.sort_by(|a, b| a.0.cmp(&b.0));
            seen
        };
        assert_eq!(verdicts(&[b"/a", b"/b", b"/a", b"/b"]), verdicts(&[b"/b", b"/b", b"/a", b"/a"]));
    }
}
