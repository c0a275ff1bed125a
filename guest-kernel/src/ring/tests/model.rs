//! Random actions of two honest sides against queues.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Action {
    Push,
    PublishRequests,
    TakeRequest,
    ArmBack,
    Respond,
    PublishResponses,
    TakeResponse,
    ArmFront,
}
use Action::*;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Push),
        2 => Just(PublishRequests),
        3 => Just(TakeRequest),
        1 => Just(ArmBack),
        3 => Just(Respond),
        2 => Just(PublishResponses),
        3 => Just(TakeResponse),
        1 => Just(ArmFront),
    ]
}

/// One direction: what was written and not published, published and not taken; whether the consumer sleeps, told
/// that nothing was there.
#[derive(Default)]
struct Way {
    written: VecDeque<u32>,
    published: VecDeque<u32>,
    sleeps: bool,
}

impl Way {
    /// Publishes, and checks that a sleeper is woken.
    fn publish(&mut self, notified: bool) -> Result<(), TestCaseError> {
        let some = !self.written.is_empty();
        prop_assert!(some || !notified, "told of nothing new");
        prop_assert!(!(some && self.sleeps) || notified, "a lost wake-up");
        self.sleeps &= !some;
        self.published.append(&mut self.written);
        Ok(())
    }

    fn arm(&mut self, there: bool) -> Result<(), TestCaseError> {
        prop_assert_eq!(there, !self.published.is_empty());
        self.sleeps = !there;
        Ok(())
    }
}

proptest! {
    #[test]
    fn entries_arrive_in_order_and_sleepers_are_woken(
        start in prop_oneof![Just(0u32), Just(u32::MAX - 5), any::<u32>()],
        actions in proptest::collection::vec(action(), 0..300),
    ) {
        let (mut front, mut back) = ring(words(SLOTS), start);
        let (mut requests, mut responses) = (Way::default(), Way::default());
        let (mut next, mut in_use, mut unanswered) = (0, 0, VecDeque::new());
        for action in actions {
            match action {
                Push => {
                    let pushed = front.push(&request(next)).is_some();
                    prop_assert_eq!(pushed, in_use < SLOTS);
                    if pushed {
                        requests.written.push_back(next);
                        (next, in_use) = (next + 1, in_use + 1);
                    }
                }
                PublishRequests => requests.publish(front.publish())?,
                TakeRequest => {
                    let due = requests.published.pop_front();
                    prop_assert_eq!(back.take(), Ok(due.map(request)));
                    unanswered.extend(due);
                }
                ArmBack => requests.arm(back.arm().unwrap())?,
                Respond => if let Some(value) = unanswered.pop_front() {
                    back.respond(&response(value));
                    responses.written.push_back(value);
                },
                PublishResponses => responses.publish(back.publish())?,
                TakeResponse => {
                    let due = responses.published.pop_front();
                    prop_assert_eq!(front.take(), Ok(due.map(response)));
                    in_use -= u32::from(due.is_some());
                }
                ArmFront => responses.arm(front.arm(1).unwrap())?,
            }
            prop_assert_eq!(front.free(), SLOTS - in_use);
            prop_assert_eq!(back.unanswered() as usize, unanswered.len());
        }
    }
}
