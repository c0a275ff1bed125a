//! An address space's life: pinned, active, forked, destroyed.

use super::Space;
use crate::hypercall::mmuext;
use crate::memory::frames::Editor;
use crate::memory::{Error, Memory, numbers};
use crate::paging::tree::{Copied, Missing, Tables, copy, edit};
use crate::paging::{Mfn, Rights, WRITABLE, target};

impl Space {
    /// Makes the hypervisor check all tables and keep them as such. From then on the space can be
    /// [activated](Memory::activate).
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn pin(&mut self, memory: &mut Memory) -> Result<(), Error> {
        self.request_pin(memory)?;
        memory.commit()
    }

    fn request_pin(&mut self, memory: &mut Memory) -> Result<(), Error> {
        let mut editor = Editor { memory, fresh: &mut self.fresh, sealed: &mut self.sealed };
        editor.seal()?;
        for root in [self.kernel, self.user] {
            memory.batch.operation(mmuext::pin(4, root.0)).map_err(Error::Refused)?;
        }
        self.pinned = true;
        Ok(())
    }

    /// Makes all tables plain again. The space must not be active.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn unpin(&mut self, memory: &mut Memory) -> Result<(), Error> {
        assert!(memory.active != self.kernel, "unpinning the active address space");
        for root in [self.kernel, self.user] {
            memory.batch.operation(mmuext::unpin(root.0)).map_err(Error::Refused)?;
        }
        memory.remap_all(&self.sealed, Rights::Write)?;
        // The tables are about to be written: their read-only translations have to go.
        memory.flush()?;
        memory.frames.append(&mut self.fresh, core::mem::take(&mut self.sealed));
        self.pinned = false;
        Ok(())
    }

    /// A pinned copy. Both spaces share all pages, without the right to write until one of them does.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`] changes nothing.
    pub fn fork(&mut self, memory: &mut Memory) -> Result<Space, Error> {
        memory.expect_free(u64::from(self.tables()))?;
        let mut child = Space::with(memory, self.regions.clone())?;
        let (from, to) = (self.root(), child.upper);
        let mut editor = Editor { memory, fresh: &mut child.fresh, sealed: &mut child.sealed };
        for region in self.regions.iter() {
            copy(&mut editor, from, to, region.range.clone(), &mut |editor, old| {
                if let Some(mfn) = target(old) {
                    editor.memory.frames.share(numbers::pfn(mfn));
                }
                Ok(Copied { original: old & !WRITABLE, copy: old & !WRITABLE })
            })?;
        }
        child.request_pin(memory)?;
        if memory.active == self.kernel { memory.flush() } else { memory.commit() }?;
        Ok(child)
    }

    /// Gives back all that the space has. It must not be active.
    ///
    /// # Errors
    /// When the hypervisor refuses; frames are lost then.
    pub fn destroy(mut self, memory: &mut Memory) -> Result<(), Error> {
        if self.pinned {
            self.unpin(memory)?;
        }
        let root = self.root();
        let mut editor = Editor { memory, fresh: &mut self.fresh, sealed: &mut self.sealed };
        for region in self.regions.iter() {
            edit(&mut editor, root, region.range.clone(), Missing::Skip, &mut |editor, _, old| {
                if let Some(mfn) = target(old) {
                    editor.memory.frames.release(numbers::pfn(mfn));
                }
                Ok(None)
            })?;
        }
        memory.frames.free_list(self.fresh);
        Ok(())
    }
}

impl Memory {
    /// Loads an address space that is pinned. The kernel's own part is in it.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn activate(&mut self, space: &Space) -> Result<(), Error> {
        if self.active == space.kernel {
            return Ok(());
        }
        assert!(space.pinned, "activating an address space that isn't pinned");
        self.load(space.kernel, Some(space.user))
    }

    /// Loads the kernel's own address space, which has no user mode.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn deactivate(&mut self) -> Result<(), Error> {
        if self.active == self.root { Ok(()) } else { self.load(self.root, None) }
    }

    fn load(&mut self, kernel: Mfn, user: Option<Mfn>) -> Result<(), Error> {
        let operations = [mmuext::new_user_base(user.map_or(0, |user| user.0)), mmuext::new_base(kernel.0)];
        for operation in operations {
            self.batch.operation(operation).map_err(Error::Refused)?;
        }
        self.commit()?;
        self.active = kernel;
        Ok(())
    }
}
