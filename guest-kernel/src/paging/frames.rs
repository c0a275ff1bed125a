//! Which of the domain's frames are free, and how often the others are in use.
//!
//! One word for each frame says it all, so that neither allocating nor freeing a frame needs memory of its own.

use super::Pfn;

/// The frame is free; the other bits name the next free one.
const FREE: u32 = 1 << 31;
/// The frame is in a [`FrameList`]; the other bits name the next one in it.
const LISTED: u32 = 1 << 30;
/// The bits of a word that hold a number: of a frame, or of references.
const NUMBER: u32 = LISTED - 1;
/// The end of a list, in place of a frame.
const END: u32 = NUMBER;

/// Frames that belong together, such as the tables of an address space. A list that is dropped loses its frames:
/// [`FrameTable::free_list`] gives them back.
#[derive(Debug)]
pub struct FrameList {
    head: u32,
    count: u32,
}

impl FrameList {
    /// No frames.
    pub const fn new() -> FrameList {
        FrameList { head: END, count: 0 }
    }

    /// How many frames.
    pub const fn count(&self) -> u32 {
        self.count
    }
}

impl Default for FrameList {
    fn default() -> FrameList {
        FrameList::new()
    }
}

/// The word of each frame, indexed by pseudo-physical number. A word that is neither free nor listed is the number of
/// references to the frame; 0 means that the frame isn't for the table to give: the image, for example.
pub struct FrameTable<'a> {
    words: &'a mut [u32],
    free: FrameList,
}

impl<'a> FrameTable<'a> {
    /// A table of as many frames as there are words, none of them to give yet.
    pub fn new(words: &'a mut [u32]) -> FrameTable<'a> {
        words.fill(0);
        FrameTable { words, free: FrameList::new() }
    }

    /// The same table, with more words.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn moved_to<'b>(self, words: &'b mut [u32]) -> FrameTable<'b> {
        let (old, new) = words.split_at_mut(self.words.len());
        old.copy_from_slice(self.words);
        new.fill(0);
        FrameTable { words, free: self.free }
    }

    /// How many frames there are words for.
    pub fn size(&self) -> u64 {
        self.words.len() as u64
    }

    /// How many frames are free.
    pub fn free(&self) -> u32 {
        self.free.count
    }

    /// Makes a frame free that the table could not give before.
    ///
    /// # Panics
    /// If it could.
    pub fn add(&mut self, pfn: Pfn) {
        assert!(*self.word(pfn) == 0, "{pfn:?} is in the table already");
        *self.word(pfn) = FREE | self.free.head;
        self.free = FrameList { head: number(pfn), count: self.free.count + 1 };
    }

    /// Takes a free frame, with one reference.
    pub fn allocate(&mut self) -> Option<Pfn> {
        let pfn = self.first(&self.free)?;
        let next = *self.word(pfn) & NUMBER;
        *self.word(pfn) = 1;
        self.free = FrameList { head: next, count: self.free.count - 1 };
        Some(pfn)
    }

    /// The references to a frame; 0 for one that is free, listed, or not in the table.
    pub fn references(&self, pfn: Pfn) -> u32 {
        let word = usize::try_from(pfn.0).ok().and_then(|pfn| self.words.get(pfn));
        word.copied().filter(|word| word & (FREE | LISTED) == 0).unwrap_or(0)
    }

    /// Adds a reference to a frame that has one.
    ///
    /// # Panics
    /// If it has none, or too many.
    pub fn share(&mut self, pfn: Pfn) {
        let word = self.counted(pfn);
        assert!(*word < NUMBER, "too many references to {pfn:?}");
        *word += 1;
    }

    /// Drops a reference. With the last one the frame is free.
    ///
    /// # Panics
    /// If there is none.
    pub fn release(&mut self, pfn: Pfn) {
        let word = self.counted(pfn);
        *word -= 1;
        if *word == 0 {
            self.add(pfn);
        }
    }

    /// Drops a reference. With the last one the frame goes into a list: it is to be free later.
    ///
    /// # Panics
    /// As [`release`](FrameTable::release).
    pub fn release_to(&mut self, list: &mut FrameList, pfn: Pfn) {
        let word = self.counted(pfn);
        *word -= 1;
        if *word == 0 {
            self.enter(list, pfn);
        }
    }

    /// Takes a free frame into a list.
    pub fn allocate_to(&mut self, list: &mut FrameList) -> Option<Pfn> {
        let pfn = self.allocate()?;
        self.enter(list, pfn);
        Some(pfn)
    }

    /// Takes the frame that came last into a list out of it; it has one reference then.
    ///
    /// # Panics
    /// If the list is another table's.
    pub fn pop(&mut self, list: &mut FrameList) -> Option<Pfn> {
        let pfn = self.first(list)?;
        let word = self.word(pfn);
        assert!(*word & LISTED != 0, "{pfn:?} is in no list");
        *list = FrameList { head: *word & NUMBER, count: list.count - 1 };
        *word = 1;
        Some(pfn)
    }

    /// Moves all frames of list `from` to list `to`.
    pub fn append(&mut self, to: &mut FrameList, mut from: FrameList) {
        while let Some(pfn) = self.pop(&mut from) {
            self.enter(to, pfn);
        }
    }

    /// The frame that came last into a list.
    pub fn first(&self, list: &FrameList) -> Option<Pfn> {
        (list.head != END).then_some(Pfn(u64::from(list.head)))
    }

    /// The frame that came into its list before `pfn`.
    pub fn next(&self, pfn: Pfn) -> Option<Pfn> {
        let word = usize::try_from(pfn.0).ok().and_then(|pfn| self.words.get(pfn));
        let next = word.copied().filter(|word| word & LISTED != 0)? & NUMBER;
        (next != END).then_some(Pfn(u64::from(next)))
    }

    /// Makes all frames of a list free.
    pub fn free_list(&mut self, mut list: FrameList) {
        while let Some(pfn) = self.pop(&mut list) {
            self.release(pfn);
        }
    }

    fn enter(&mut self, list: &mut FrameList, pfn: Pfn) {
        *self.word(pfn) = LISTED | list.head;
        *list = FrameList { head: number(pfn), count: list.count + 1 };
    }

    fn word(&mut self, pfn: Pfn) -> &mut u32 {
        &mut self.words[number(pfn) as usize]
    }

    /// The word of a frame with references.
    fn counted(&mut self, pfn: Pfn) -> &mut u32 {
        let word = self.word(pfn);
        assert!(*word & (FREE | LISTED) == 0 && *word > 0, "{pfn:?} has no references");
        word
    }
}

/// A frame's number as a word has it.
fn number(pfn: Pfn) -> u32 {
    u32::try_from(pfn.0).ok().filter(|number| *number < END).expect("a frame beyond 4 TiB")
}

#[cfg(test)]
mod tests;
