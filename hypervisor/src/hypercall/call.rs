//! One call as its handler sees it: its arguments, the guest's memory, and what it answers.

use pv_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::platform::Platform;
use crate::addr::is_canonical;
use crate::bounce::Return;
use crate::domain::End;
use crate::domain::vcpu::Vcpu;
use crate::guest::Fault;
use crate::mm::error::{Refused, Stop};
use crate::mm::operation::Operation;
use crate::mm::perform::{FramesLock, Unfinished, perform};

/// What becomes of the vCPU after a hypercall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// It goes on.
    Resume(Return),
    /// It goes on when other vCPUs of its CPU had their turn.
    Yield,
    /// It waits for an upcall that is not masked.
    Block,
    /// It waits for one of some ports, or for a system time in nanoseconds.
    Poll {
        /// When to give up waiting, if ever.
        until: Option<u64>,
    },
    /// Its domain ends.
    End(End),
}

/// What becomes of a call that doesn't just return a value.
///
/// An error code of the ABI, or one of two numbers that aren't. One word, so that a [`Reply`] is returned in registers:
/// as an enum it takes a dozen instructions more, in every call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Otherwise(pub(super) u64);

impl Otherwise {
    /// A part is done: the guest makes the call again, with [`Call::args`] as they are now.
    pub(super) const AGAIN: Otherwise = Otherwise(u64::MAX);
    /// The call is done, RAX is 0, and [`Call::next`] says what follows.
    pub(super) const THEN: Otherwise = Otherwise(u64::MAX - 1);
}

impl From<Errno> for Otherwise {
    fn from(errno: Errno) -> Self {
        Otherwise(errno.code().unsigned_abs())
    }
}

impl From<Fault> for Otherwise {
    fn from(_: Fault) -> Self {
        Errno::EFAULT.into()
    }
}

/// What a handler answers: what goes to RAX, or what else is to happen.
pub(crate) type Reply = Result<u64, Otherwise>;

/// Page-table entries that one call may look at, or comparable work, before it is restarted: some hundred thousand
/// instructions, which is how long interrupts may wait.
pub(super) const BUDGET: u32 = 2048;

/// What it takes of the budget to zero or copy a page: as much as to look at some dozen page-table entries.
pub(super) const PAGE_COST: u32 = 16;

/// One call as its handler sees it.
pub(crate) struct Call<'a, P: Platform> {
    pub vcpu: &'a mut Vcpu,
    pub platform: &'a mut P,
    /// The arguments: the guest's registers, or an entry of its multicall.
    pub args: &'a mut [u64; 6],
    /// What is left of [`BUDGET`].
    pub budget: u32,
    /// Where to say what follows, for [`Otherwise::THEN`].
    pub next: &'a mut Option<Next>,
}

impl<P: Platform> Call<'_, P> {
    /// Argument `index` as a 32-bit number. As in Xen, where most arguments are `unsigned int`, the upper half of the
    /// register doesn't count.
    pub fn u32(&self, index: usize) -> u32 {
        let [a, b, c, d, ..] = self.word(index).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Argument `index`.
    pub fn word(&self, index: usize) -> u64 {
        self.args.get(index).copied().unwrap_or(0)
    }

    /// To make the call again with `words` for its first arguments. The others stay as they are: a call may destroy only
    /// the registers of arguments that it has, and kernels keep things in the rest (`xen-x86_64.h`).
    pub fn again<const N: usize>(&mut self, words: [u64; N]) -> Otherwise {
        for (arg, word) in self.args.iter_mut().zip(words) {
            *arg = word;
        }
        Otherwise::AGAIN
    }

    /// To return 0, and then to do something else than to go on.
    pub fn then(&mut self, next: Next) -> Otherwise {
        *self.next = Some(next);
        Otherwise::THEN
    }

    /// Copies a struct in.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read<T: FromBytes + IntoBytes>(&mut self, address: u64) -> Result<T, Errno> {
        self.platform.read(address).map_err(|_| Errno::EFAULT)
    }

    /// Copies a struct in, to where it is to be.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_into<T: FromBytes + IntoBytes>(&mut self, address: u64, value: &mut T) -> Result<(), Errno> {
        self.platform.read_bytes(address, value.as_mut_bytes()).map_err(|_| Errno::EFAULT)
    }

    /// Copies a struct out.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write<T: IntoBytes + Immutable>(&mut self, address: u64, value: &T) -> Result<(), Errno> {
        self.platform.write(address, value).map_err(|_| Errno::EFAULT)
    }

    /// Carries out a step of the memory rules, with its effects.
    pub fn memory<T>(
        &mut self,
        step: impl FnMut(&mut Operation<'_, P::Tables>, &dyn FramesLock) -> Result<T, Stop>,
    ) -> Result<T, Unfinished> {
        perform(self.platform, &mut self.vcpu.pending, &mut self.budget, step)
    }

    /// Notes in the log what was refused; the code that the guest gets.
    pub fn refuse(&mut self, what: &str, refused: Refused) -> Errno {
        self.platform.complain(format_args!("v{}: {what} refused: {refused}", self.vcpu.id.0));
        refused.errno()
    }
}

/// An entry point given by a guest must be canonical: a CPU that is sent to any other faults in ring 0.
///
/// # Errors
/// `EINVAL`.
pub(super) fn canonical(address: u64) -> Result<u64, Errno> {
    if is_canonical(address) { Ok(address) } else { Err(Errno::EINVAL) }
}

/// The payload of a `domctl` or `sysctl`, as what its command says it is.
pub(super) fn payload<T, const WORDS: usize>(words: &mut [u64; WORDS]) -> &mut T
where
    T: FromBytes + IntoBytes + KnownLayout + Immutable,
{
    const { assert!(size_of::<T>() <= 8 * WORDS && align_of::<T>() <= 8) };
    let (payload, _) = T::mut_from_prefix(words.as_mut_bytes()).expect("it fits, as was just checked");
    payload
}
