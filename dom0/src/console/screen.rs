//! The one screen, and who says what on it. Pure.
//!
//! Whoever has the focus is shown as it writes, character by character. The others are shown line by line, each line with its
//! writer's name in front. A line that the focused one has begun is shown again behind lines of others, so that a prompt stays
//! the last line.
//!
//! Only the focused one talks to the terminal. From lines of others, and from those that are kept, everything but text is left
//! out: a terminal's control sequences move, hide and rewrite what is on the screen, and have keys typed.

use super::history::History;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// The longest line. A longer one is shown as several.
const LINE: usize = 1024;

/// Who writes on the screen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Writer(u32);

/// Where the screen's bytes go.
pub trait Output {
    /// Takes bytes to be shown.
    fn write(&mut self, bytes: &[u8]);

    /// Shows them.
    fn flush(&mut self);
}

struct State {
    writer: Writer,
    name: String,
    /// Its line begins with its name.
    named: bool,
    /// It can have the focus.
    listens: bool,
    line: Vec<u8>,
    history: History,
}

/// The screen.
pub struct Screen<O> {
    output: O,
    writers: Vec<State>,
    next: u32,
    focus: Writer,
    /// The screen's last line has no end yet: the focused writer's.
    open: bool,
}

impl<O: Output> Screen<O> {
    /// A screen with a first writer, which has the focus and gets it whenever the writer that has it goes. Its lines are shown
    /// without its name.
    pub fn new(output: O, name: &str) -> Screen<O> {
        let mut screen = Screen { output, writers: Vec::new(), next: 0, focus: Writer(0), open: false };
        screen.insert(name, false);
        screen.listen(Writer(0));
        screen
    }

    /// Adds a writer, which can't have the focus yet.
    pub fn add(&mut self, name: &str) -> Writer {
        self.insert(name, true)
    }

    fn insert(&mut self, name: &str, named: bool) -> Writer {
        let writer = Writer(self.next);
        self.next += 1;
        self.writers.push(State {
            writer,
            name: name.into(),
            named,
            listens: false,
            line: Vec::new(),
            history: History::new(),
        });
        writer
    }

    /// The first writer.
    pub fn first(&self) -> Writer {
        Writer(0)
    }

    /// The writer in focus.
    pub fn focus(&self) -> Writer {
        self.focus
    }

    /// A writer's name.
    pub fn name(&self, writer: Writer) -> &str {
        self.index(writer).map_or("", |index| &self.writers[index].name)
    }

    /// The writer with this name.
    pub fn find(&self, name: &str) -> Option<Writer> {
        self.writers.iter().find(|state| state.name == name).map(|state| state.writer)
    }

    /// From now on a writer can have the focus.
    pub fn listen(&mut self, writer: Writer) {
        if let Some(index) = self.index(writer) {
            self.writers[index].listens = true;
        }
    }

    /// A writer has gone, though it may come back: it can't have the focus, and a line that it has begun ends.
    pub fn leave(&mut self, writer: Writer) {
        let Some(index) = self.index(writer) else { return };
        if !self.writers[index].line.is_empty() {
            self.write(writer, b"\n");
        }
        if writer != self.first() {
            self.writers[index].listens = false;
            if self.focus == writer {
                self.set_focus(self.first());
            }
        }
    }

    /// Moves the focus to a writer that can have it.
    pub fn set_focus(&mut self, writer: Writer) {
        let Some(index) = self.index(writer) else { return };
        if self.writers[index].listens && writer != self.focus {
            self.close();
            self.focus = writer;
            // What it has begun was written when it was not for the terminal.
            let state = &mut self.writers[index];
            state.line = plain(&state.line).into();
            self.show_line();
            self.output.flush();
        }
    }

    /// Moves the focus to the next writer, in the order in which they came, round and round.
    pub fn focus_next(&mut self) {
        let after = self.index(self.focus).map_or(0, |index| index + 1);
        let next = self.writers.iter().cycle().skip(after).take(self.writers.len()).find(|state| state.listens);
        if let Some(next) = next.map(|state| state.writer) {
            self.set_focus(next);
        }
    }

    /// A writer says something.
    pub fn write(&mut self, writer: Writer, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.write_piece(writer, piece);
        }
        self.show_line();
        self.output.flush();
    }

    /// Says a line in the name of `name`, which need not be a writer.
    pub fn say(&mut self, name: &str, text: fmt::Arguments<'_>) {
        self.close();
        let mut line = String::new();
        // Fails only if a `Display` does.
        let _ = write!(line, "{text}");
        for line in line.lines() {
            self.show_named(name, &plain(line.as_bytes()));
        }
        self.show_line();
        self.output.flush();
    }

    /// The last `count` lines that a writer said.
    pub fn history(&self, writer: Writer, count: usize) -> impl Iterator<Item = &[u8]> {
        self.index(writer).into_iter().flat_map(move |index| self.writers[index].history.last(count))
    }

    fn index(&self, writer: Writer) -> Option<usize> {
        self.writers.iter().position(|state| state.writer == writer)
    }

    /// Part of a line, perhaps with its end.
    fn write_piece(&mut self, writer: Writer, piece: &[u8]) {
        let Some(index) = self.index(writer) else { return };
        let (text, ends) = match piece {
            [text @ .., b'\n'] => (text, true),
            text => (text, false),
        };
        let shown = writer == self.focus;
        if shown && (ends || !text.is_empty()) {
            self.show_line();
            self.open_line(index);
        }
        for byte in text.iter().filter(|byte| is_printable(**byte)) {
            let line = &mut self.writers[index].line;
            if shown {
                // A carriage return in front of a line's end is not needed. Whether it stands there shows the next byte.
                if line.last() == Some(&b'\r') {
                    self.output.write(b"\r");
                }
                if *byte != b'\r' {
                    self.output.write(&[*byte]);
                }
            }
            match byte {
                0x08 => _ = line.pop(),
                byte => line.push(*byte),
            }
            if line.len() == LINE {
                self.finish(index, shown);
                if shown {
                    self.open_line(index);
                }
            }
        }
        if ends {
            self.finish(index, shown);
        }
    }

    /// A writer's line is complete.
    fn finish(&mut self, index: usize, shown: bool) {
        let line = core::mem::take(&mut self.writers[index].line);
        let line = &*plain(&line);
        self.writers[index].history.push(line.as_bytes());
        self.close();
        if !shown {
            let name = core::mem::take(&mut self.writers[index].name);
            self.show_named(&name, line);
            self.writers[index].name = name;
        }
    }

    /// Shows the line that the focused writer has begun, if it isn't there.
    fn show_line(&mut self) {
        let Some(index) = self.index(self.focus) else { return };
        if !self.open && !self.writers[index].line.is_empty() {
            self.open_line(index);
            self.output.write(&self.writers[index].line);
        }
    }

    /// Begins the focused writer's line, if there is none.
    fn open_line(&mut self, index: usize) {
        if !self.open {
            let state = &self.writers[index];
            if state.named {
                show_name(&mut self.output, &state.name);
            }
            self.open = true;
        }
    }

    /// Ends the screen's last line.
    fn close(&mut self) {
        if core::mem::take(&mut self.open) {
            self.output.write(b"\n");
        }
    }

    fn show_named(&mut self, name: &str, line: &str) {
        show_name(&mut self.output, name);
        self.output.write(line.as_bytes());
        self.output.write(b"\n");
    }
}

fn show_name<O: Output>(output: &mut O, name: &str) {
    output.write(b"(");
    output.write(name.as_bytes());
    output.write(b") ");
}

/// The text in a line, with its tabs: without what a carriage return went back over, control characters, sequences that an
/// escape character begins, and what is no UTF-8.
fn plain(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut text = String::with_capacity(line.len());
    let mut chars = line.utf8_chunks().flat_map(|chunk| chunk.valid().chars()).peekable();
    while let Some(c) = chars.next() {
        match c {
            // A control sequence goes on to a byte of this range (ECMA-48, 5.4). Without it, it would stay as text.
            '\x1b' if chars.next_if_eq(&'[').is_some() => {
                while chars.next().is_some_and(|c| !matches!(c, '@'..='~')) {}
            }
            c if c == '\t' || !c.is_control() => text.push(c),
            _ => {}
        }
    }
    text
}

/// Text, tabs, carriage returns, backspace and the escape character of cursor movements.
fn is_printable(byte: u8) -> bool {
    !matches!(byte, 0..=7 | 10..=12 | 14..=26 | 28..=31 | 127)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use core::cell::RefCell;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;

    #[derive(Clone, Default)]
    struct Sheet(Rc<RefCell<Vec<u8>>>);

    impl Output for Sheet {
        fn write(&mut self, bytes: &[u8]) {
            self.0.borrow_mut().extend_from_slice(bytes);
        }

        fn flush(&mut self) {}
    }

    impl Sheet {
        fn take(&self) -> String {
            String::from_utf8_lossy(&core::mem::take(&mut *self.0.borrow_mut())).to_string()
        }
    }

    fn screen() -> (Screen<Sheet>, Sheet, Writer, Writer) {
        let sheet = Sheet::default();
        let mut screen = Screen::new(sheet.clone(), "dom0");
        let (a, b) = (screen.add("a"), screen.add("b"));
        screen.listen(a);
        screen.listen(b);
        (screen, sheet, a, b)
    }

    #[test]
    fn lines_of_others_come_whole_and_with_their_names() {
        let (mut screen, sheet, a, b) = screen();
        screen.write(a, b"one\ntw");
        screen.write(b, b"eins\r\n");
        screen.write(a, b"o\nthree");
        assert_eq!(sheet.take(), "(a) one\n(b) eins\n(a) two\n");
    }

    #[test]
    fn the_one_in_focus_is_seen_as_it_writes_and_its_line_stays_the_last() {
        let (mut screen, sheet, a, b) = screen();
        screen.set_focus(a);
        screen.write(a, b"pro");
        assert_eq!(sheet.take(), "(a) pro");
        screen.write(a, b"mpt>");
        assert_eq!(sheet.take(), "mpt>");
        screen.write(b, b"x\ny\nz");
        assert_eq!(sheet.take(), "\n(b) x\n(b) y\n(a) prompt>");
        screen.say("dom0", format_args!("hello\nyou"));
        assert_eq!(sheet.take(), "\n(dom0) hello\n(dom0) you\n(a) prompt>");
        screen.write(a, b" \x08!\r");
        screen.write(a, b"\nnext");
        assert_eq!(sheet.take(), " \x08!\n(a) next");
        assert_eq!(screen.history(a, 9).collect::<Vec<_>>(), [b"prompt>!"]);
        screen.write(a, b"10%\r");
        screen.write(a, b"20%\r\n");
        assert_eq!(sheet.take(), "10%\r20%\n");
    }

    #[test]
    fn the_first_writer_has_no_name_in_front() {
        let (mut screen, sheet, a, _) = screen();
        screen.write(screen.first(), b"dom0> ");
        screen.write(a, b"x\n");
        screen.write(screen.first(), b"list\n");
        assert_eq!(sheet.take(), "dom0> \n(a) x\ndom0> list\n");
    }

    #[test]
    fn the_focus_moves_round_and_away_from_one_that_goes() {
        let (mut screen, sheet, a, b) = screen();
        screen.write(a, b"open");
        screen.focus_next();
        assert_eq!((screen.focus(), sheet.take()), (a, "(a) open".into()));
        screen.focus_next();
        assert_eq!((screen.focus(), sheet.take()), (b, "\n".into()));
        screen.focus_next();
        assert_eq!(screen.focus(), screen.first());
        screen.set_focus(a);
        screen.leave(a);
        assert_eq!((screen.focus(), sheet.take()), (screen.first(), "(a) open\n".into()));
        screen.set_focus(a);
        assert_eq!(screen.focus(), screen.first());
        screen.focus_next();
        assert_eq!(screen.focus(), b, "one that has gone is passed over");
        screen.leave(screen.first());
        screen.leave(b);
        assert_eq!(screen.focus(), screen.first(), "the first one is always there");
        assert_eq!((screen.find("a"), screen.find("c")), (Some(a), None));
    }

    #[test]
    fn endless_lines_are_cut_and_control_characters_left_out() {
        let (mut screen, sheet, a, _) = screen();
        screen.write(a, &[b'x'; 3 * LINE]);
        assert_eq!(sheet.take().lines().map(str::len).collect::<Vec<_>>(), [LINE + 4; 3]);
        screen.write(a, b"a\x00b\x07c\x0ed\x7f\tok\n");
        assert_eq!(sheet.take(), "(a) abcd\tok\n");
        screen.write(a, b"10%\r20%\r30%\r\n");
        assert_eq!(sheet.take(), "(a) 30%\n");
    }

    #[test]
    fn only_the_one_in_focus_talks_to_the_terminal() {
        let (mut screen, sheet, a, b) = screen();
        let evil = b"a\x1b[2J\x1b[1;31mb\x1bc\xc2\x9bd\x9be\x1b]0;f\xc3\xa9\n";
        let plain = "abcde]0;f\u{e9}";
        screen.write(a, evil);
        assert_eq!(sheet.take(), std::format!("(a) {plain}\n"));
        screen.say("dom0", format_args!("\x1b[2Ja\u{9b}b"));
        assert_eq!(sheet.take(), "(dom0) ab\n");
        // What was begun before it had the focus is not made up for.
        screen.write(a, &evil[..evil.len() - 1]);
        screen.set_focus(a);
        assert_eq!(sheet.take(), std::format!("(a) {plain}"));
        screen.write(a, b"\n");
        screen.write(b, b"\x1b[2J\n");
        assert_eq!(sheet.take(), "\n(b) \n");
        screen.write(a, evil);
        assert_eq!(sheet.take(), std::format!("(a) {}", String::from_utf8_lossy(evil)));
        let kept: Vec<&[u8]> = screen.history(a, 9).collect();
        assert_eq!(kept, [plain.as_bytes(); 3]);
    }

    proptest! {
        /// Whatever is said without the focus, the terminal gets nothing but text.
        #[test]
        fn others_say_only_text(said in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let (mut screen, sheet, a, b) = screen();
            for (number, bytes) in said.iter().enumerate() {
                screen.write(if number % 2 == 0 { a } else { b }, bytes);
            }
            screen.leave(a);
            screen.leave(b);
            let lines: Vec<&[u8]> = screen.history(a, usize::MAX).chain(screen.history(b, usize::MAX)).collect();
            let shown = sheet.0.borrow();
            for text in lines.into_iter().chain([&shown[..]]) {
                let text = core::str::from_utf8(text).unwrap();
                prop_assert!(text.chars().all(|c| c == '\t' || c == '\n' || !c.is_control()), "{text:?}");
            }
        }

        /// Each writer's whole lines are in its history, and each line of the screen is one writer's.
        #[test]
        fn all_lines_of_all_writers(said in prop::collection::vec((0usize..3, "[a-z\n]{0,12}", any::<bool>()), 0..60)) {
            let (mut screen, sheet, a, b) = screen();
            let writers = [screen.first(), a, b];
            let mut all = vec![String::new(); 3];
            for (who, text, moves) in said {
                screen.write(writers[who], text.as_bytes());
                all[who].push_str(&text);
                if moves {
                    screen.focus_next();
                }
            }
            for (writer, text) in writers.into_iter().zip(&all) {
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                let expected: Vec<&str> = if text.contains('\n') { whole.split('\n').collect() } else { vec![] };
                let found: Vec<_> = screen.history(writer, usize::MAX).map(|line| core::str::from_utf8(line).unwrap()).collect();
                prop_assert_eq!(found, expected);
            }
            let shown = sheet.take();
            for (writer, text) in writers.into_iter().zip(&all).skip(1) {
                // Each of its whole lines is shown once at least; unfinished ones more often.
                let prefix = std::format!("({}) ", screen.name(writer));
                let count = shown.lines().filter(|line| line.starts_with(&prefix)).count();
                prop_assert!(count >= text.matches('\n').count());
            }
        }
    }
}
