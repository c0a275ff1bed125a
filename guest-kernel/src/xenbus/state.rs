//! The states, and what an end does next. Header: `io/xenbus.h`.

use pv_abi::io::xenbus::*;

/// Where an end is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XenbusState {
    /// There is no such node, or it makes no sense.
    Unknown,
    /// Starting.
    Initialising,
    /// The backend waits for the frontend's details.
    InitWait,
    /// The frontend has written its details.
    Initialised,
    /// In use.
    Connected,
    /// Going down.
    Closing,
    /// Down.
    Closed,
    /// Changing.
    Reconfiguring,
    /// Changed.
    Reconfigured,
}

impl XenbusState {
    /// All, in the order of their numbers.
    const ALL: [(XenbusState, u32); 9] = [
        (XenbusState::Unknown, XENBUS_STATE_UNKNOWN),
        (XenbusState::Initialising, XENBUS_STATE_INITIALISING),
        (XenbusState::InitWait, XENBUS_STATE_INIT_WAIT),
        (XenbusState::Initialised, XENBUS_STATE_INITIALISED),
        (XenbusState::Connected, XENBUS_STATE_CONNECTED),
        (XenbusState::Closing, XENBUS_STATE_CLOSING),
        (XenbusState::Closed, XENBUS_STATE_CLOSED),
        (XenbusState::Reconfiguring, XENBUS_STATE_RECONFIGURING),
        (XenbusState::Reconfigured, XENBUS_STATE_RECONFIGURED),
    ];

    /// The state of a number.
    pub fn from_number(number: u32) -> XenbusState {
        XenbusState::ALL.iter().find(|(_, of)| *of == number).map_or(XenbusState::Unknown, |(state, _)| *state)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        XenbusState::ALL.iter().find(|(state, _)| *state == self).map_or(XENBUS_STATE_UNKNOWN, |(_, number)| *number)
    }
}

/// What an end does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Waits for the other end.
    Wait,
    /// Writes its details, and then this state.
    Offer(XenbusState),
    /// Reads the other's details, connects, and then writes `Connected`.
    Connect,
    /// Lets go of everything that it shares with the other end, and then writes this state.
    Close(XenbusState),
}

/// What a frontend does that is in state `own`, when the backend is in state `backend`.
pub fn next_of_frontend(own: XenbusState, backend: XenbusState) -> Step {
    use XenbusState::*;
    match (own, backend) {
        // A backend in any other state has not seen yet that this end starts.
        (Initialising, InitWait) => Step::Offer(Initialised),
        (Initialised, Connected) => Step::Connect,
        (Initialised | Connected, Closing | Closed | Unknown) => Step::Close(Closed),
        // It starts anew while this end goes on: the old device is no more.
        (Connected, Initialising | InitWait) => Step::Close(Closed),
        (Closing, _) => Step::Close(Closed),
        // Once it is closed, a backend that waits again can be had again.
        (Closed | Unknown, InitWait) => Step::Offer(Initialising),
        _ => Step::Wait,
    }
}

/// What a backend does that is in state `own`, when the frontend is in state `frontend`.
pub fn next_of_backend(own: XenbusState, frontend: XenbusState) -> Step {
    use XenbusState::*;
    match (own, frontend) {
        (Unknown | Initialising, _) => Step::Offer(InitWait),
        (InitWait, Initialised | Connected) => Step::Connect,
        (InitWait | Connected, Closing | Closed | Unknown) => Step::Close(Closed),
        // It starts anew without having closed: this end does it for both.
        (Connected, Initialising) => Step::Close(Closed),
        (Closing, _) => Step::Close(Closed),
        (Closed, Initialising) => Step::Offer(InitWait),
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState::*;

    #[test]
    fn numbers() {
        for (state, number) in XenbusState::ALL {
            assert_eq!((XenbusState::from_number(number), state.number()), (state, number));
        }
        assert_eq!(XenbusState::from_number(9), Unknown);
    }

    /// The state in which an end is after a step.
    fn after(own: XenbusState, step: Step) -> XenbusState {
        match step {
            Step::Wait => own,
            Step::Offer(state) | Step::Close(state) => state,
            Step::Connect => Connected,
        }
    }

    /// Lets both go on until both wait.
    fn settle(mut ends: (XenbusState, XenbusState)) -> (XenbusState, XenbusState) {
        for _ in 0..20 {
            let before = ends;
            ends.0 = after(ends.0, next_of_frontend(ends.0, ends.1));
            ends.1 = after(ends.1, next_of_backend(ends.1, ends.0));
            if ends == before {
                return ends;
            }
        }
        panic!("{ends:?} go on without end");
    }

    #[test]
    fn two_ends_that_start_meet() {
        assert_eq!(settle((Initialising, Initialising)), (Connected, Connected));
        assert_eq!(settle((Initialising, InitWait)), (Connected, Connected));
    }

    #[test]
    fn one_that_leaves_takes_the_other_along() {
        assert_eq!(next_of_backend(Connected, Closing), Step::Close(Closed));
        assert_eq!(next_of_backend(Connected, Unknown), Step::Close(Closed));
        assert_eq!(next_of_frontend(Connected, Closing), Step::Close(Closed));
        assert_eq!(next_of_frontend(Connected, Unknown), Step::Close(Closed));
    }

    #[test]
    fn a_frontend_that_starts_again_is_served_again() {
        assert_eq!(settle((Initialising, Connected)), (Connected, Connected));
        assert_eq!(settle((Initialising, Closed)), (Connected, Connected));
    }

    #[test]
    fn no_pair_of_states_goes_on_for_ever() {
        for (own, _) in XenbusState::ALL {
            for (other, _) in XenbusState::ALL {
                settle((own, other));
            }
        }
    }
}
