//! Lines that are typed for one console and not continued in another. Pure.
//!
//! Keys go elsewhere by themselves when the domain in focus ends, or comes again. It could choose the moment: what its user
//! types would be obeyed where it was not meant, most of all at the prompt of the control domain.

use super::screen::Writer;

/// For whom a line was begun and not ended yet.
#[derive(Default, Debug)]
pub struct Begun(Option<Writer>);

impl Begun {
    /// A key was typed, and `focus` has the keys. Whether it belongs to a line that was begun for another, so that nobody is to
    /// have it: up to the key that ends the line, or any other control character.
    pub fn strays(&mut self, focus: Writer, key: u8) -> bool {
        let strays = self.0.is_some_and(|writer| writer != focus);
        if key < b' ' {
            self.0 = None;
        } else if !strays {
            self.0 = Some(focus);
        }
        strays
    }

    /// The user has moved the keys: what comes now is meant for whom they are for now.
    pub fn leave(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::{Output, Screen};
    use super::*;
    use std::string::String;

    struct Nowhere;

    impl Output for Nowhere {
        fn write(&mut self, _bytes: &[u8]) {}

        fn flush(&mut self) {}
    }

    #[test]
    fn a_line_goes_to_one_console_or_to_none() {
        let mut screen = Screen::new(Nowhere, "dom0");
        let (prompt, guest) = (screen.first(), screen.add("a"));
        let mut begun = Begun::default();
        let mut kept =
            |focus, keys: &str| keys.chars().filter(|key| !begun.strays(focus, *key as u8)).collect::<String>();
        assert_eq!(kept(guest, "one\rtwo"), "one\rtwo");
        // It ends in the middle of the line.
        assert_eq!(kept(prompt, " shutdown\rlist\rcre"), "list\rcre");
        // It comes again, with the keys.
        assert_eq!(kept(guest, "ate\rthree\r"), "three\r");
        assert_eq!(kept(prompt, "list\r"), "list\r");
        assert_eq!(kept(guest, "x\u{4}"), "x\u{4}");
        assert_eq!(kept(prompt, "top\r"), "top\r");
    }

    #[test]
    fn who_moves_the_keys_knows_where_they_go() {
        let mut screen = Screen::new(Nowhere, "dom0");
        let (prompt, guest) = (screen.first(), screen.add("a"));
        let mut begun = Begun::default();
        assert!(!begun.strays(guest, b'x'));
        begun.leave();
        assert!(!begun.strays(prompt, b'y'));
    }
}
