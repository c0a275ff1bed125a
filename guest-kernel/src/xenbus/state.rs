//! The states, and what a backend does next. Header: `io/xenbus.h`.

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

/// What a backend does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Waits for the frontend.
    Wait,
    /// Says what it offers, and then `InitWait`.
    Offer,
    /// Reads the frontend's details, connects, and then says `Connected`.
    Connect,
    /// Takes nothing more from the frontend, and says `Closing`.
    Close,
    /// Says `Closed` as soon as nothing of the frontend's is in use.
    Finish,
}

/// What a backend does that is in state `own`, when the frontend is in state `frontend`.
///
/// A frontend that does things out of order gets a closed device, and may start again.
pub fn next_of_backend(own: XenbusState, frontend: XenbusState) -> Step {
    use XenbusState::*;
    match (own, frontend) {
        (InitWait, Initialised | Connected) => Step::Connect,
        // Not there yet, or never: a domain that ended without a word.
        (InitWait, Initialising | Unknown) => Step::Wait,
        (Connected, Initialised | Connected) => Step::Wait,
        (InitWait | Connected, _) => Step::Close,
        // One that starts anew without having closed is waited for once this end has let go.
        (Closing, Initialising | Closed | Unknown) => Step::Finish,
        (Closed, Initialising) => Step::Offer,
        (Closing | Closed, _) => Step::Wait,
        (Unknown | Initialising | Initialised | Reconfiguring | Reconfigured, _) => Step::Offer,
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

    /// Lets a backend go on until it waits.
    fn settle(mut own: XenbusState, frontend: XenbusState) -> XenbusState {
        for _ in 0..5 {
            own = match next_of_backend(own, frontend) {
                Step::Wait => return own,
                Step::Offer => InitWait,
                Step::Connect => Connected,
                Step::Close => Closing,
                Step::Finish => Closed,
            };
        }
        panic!("{own:?} goes on without end at {frontend:?}");
    }

    #[test]
    fn a_backend_follows_a_frontend_through_its_life() {
        let mut own = Initialising;
        for (frontend, then) in [
            (Unknown, InitWait),
            (Initialising, InitWait),
            (Initialised, Connected),
            (Connected, Connected),
            (Closing, Closing),
            (Closed, Closed),
            (Initialising, InitWait),
            (Connected, Connected),
        ] {
            own = settle(own, frontend);
            assert_eq!(own, then, "after the frontend's {frontend:?}");
        }
    }

    #[test]
    fn a_frontend_that_vanishes_or_starts_anew_is_let_go() {
        assert_eq!(settle(Connected, Unknown), Closed);
        assert_eq!(settle(Connected, Initialising), InitWait);
        assert_eq!(settle(InitWait, Closed), Closed);
    }

    #[test]
    fn no_state_of_a_frontend_makes_it_go_on_for_ever() {
        for (own, _) in XenbusState::ALL {
            for (frontend, _) in XenbusState::ALL {
                settle(own, frontend);
            }
        }
    }
}
