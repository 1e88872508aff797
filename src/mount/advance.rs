//! Moving the clocks of several clients together, event by event in due order across them.

use std::{path::PathBuf, time::Duration};

use crate::error::Refusal;

/// A client whose clock is moved by hand.
pub trait Moving {
    /// Its turn among those with something due at the same time: client id, then mountpoint.
    fn rank(&self) -> (String, PathBuf);

    /// Moves its clock, and lands what is due by then.
    ///
    /// # Errors
    /// Its clock is a real one, or it has gone.
    fn step(&mut self, by: Duration) -> Result<Moved, Refusal>;
}

/// What one step has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How many mutations landed.
    pub landed: u64,
    /// How long until this client's next mutation is due.
    pub next_due: Option<Duration>,
}

/// Moves all clocks by `by`: each step leads to the next due time of any client, and there each in its turn lands what
/// it has due. Returns how many mutations landed in all.
///
/// # Errors
/// A client that cannot be moved, before any has been; or one that has gone meanwhile.
pub fn advance_together<M: Moving>(clients: &mut [M], by: Duration) -> Result<u64, Refusal> {
    clients.sort_by_key(Moving::rank);
    let mut landed = 0;
    let mut left = by;
    let mut next = step_all(clients, Duration::ZERO, &mut landed)?;
    while !left.is_zero() {
        // Whoever has something due now could not land it; the next step tries again.
        let step = next.filter(|next| !next.is_zero()).map_or(left, |next| next.min(left));
        left -= step;
        next = step_all(clients, step, &mut landed)?;
    }
    Ok(landed)
}

fn step_all<M: Moving>(
    clients: &mut [M],
    by: Duration,
    landed: &mut u64,
) -> Result<Option<Duration>, Refusal> {
    let mut next: Option<Duration> = None;
    for client in clients {
        let moved = client.step(by)?;
        *landed += moved.landed;
        next = next.into_iter().chain(moved.next_due).min();
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, rc::Rc};

    type Landings = Rc<RefCell<Vec<(String, u64)>>>;

    struct Hand {
        id: &'static str,
        now: u64,
        due: Vec<u64>,
        landings: Landings,
    }

    impl Moving for Hand {
        fn rank(&self) -> (String, PathBuf) {
            (self.id.to_string(), PathBuf::new())
        }

        fn step(&mut self, by: Duration) -> Result<Moved, Refusal> {
            self.now += by.as_millis() as u64;
            let (due, later): (Vec<u64>, Vec<u64>) = self.due.iter().partition(|due| **due <= self.now);
            self.due = later;
            let landed = due.len() as u64;
            self.landings.borrow_mut().extend(due.into_iter().map(|due| (self.id.to_string(), due)));
            let next = self.due.iter().min().map(|due| Duration::from_millis(due - self.now));
            Ok(Moved { landed, next_due: next })
        }
    }

    #[test]
    fn clients_land_in_due_order_across_them_and_in_order_of_their_names_at_the_same_time() {
        let landings = Landings::default();
        let hand = |id, due| Hand { id, now: 0, due, landings: landings.clone() };
        let mut hands = [hand("b", vec![30, 20, 0]), hand("a", vec![20, 25, 31])];
        assert_eq!(advance_together(&mut hands, Duration::from_millis(30)), Ok(5));
        let order: Vec<(String, u64)> = landings.borrow().clone();
        let expected = [("b", 0), ("a", 20), ("b", 20), ("a", 25), ("b", 30)];
        assert_eq!(order, expected.map(|(id, due)| (id.to_string(), due)));
        assert!(hands.iter().all(|hand| hand.now == 30));
    }

    #[test]
    fn with_nothing_due_all_move_in_one_step() {
        let landings = Landings::default();
        let mut hands = [Hand { id: "a", now: 0, due: vec![], landings }];
        assert_eq!(advance_together(&mut hands, Duration::from_secs(3600)), Ok(0));
        assert_eq!(hands[0].now, 3_600_000);
    }
}
