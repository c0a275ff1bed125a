//! What can be made to fail.

/// Something that can be made to fail.
#[derive(Clone, Copy, Default)]
pub struct Failing {
    left: Option<u32>,
    once: bool,
    /// Whether it came to that.
    pub failed: bool,
}

impl Failing {
    /// Works so many times, and never again.
    pub fn after(count: u32) -> Failing {
        Failing { left: Some(count), once: false, failed: false }
    }

    /// Works so many times, fails, and works again.
    pub fn once_after(count: u32) -> Failing {
        Failing { once: true, ..Failing::after(count) }
    }

    pub(super) fn fails(&mut self) -> bool {
        match self.left {
            Some(0) => {
                self.failed = true;
                if self.once {
                    self.left = None;
                }
                true
            }
            Some(left) => {
                self.left = Some(left - 1);
                false
            }
            None => false,
        }
    }
}
