//! Reading arguments: structs by copy, words by checked narrowing.

use pv_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Call, Next, Otherwise, Platform};
use crate::addr::is_canonical;

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
        let mut value = T::new_zeroed();
        self.platform.read_bytes(address, value.as_mut_bytes()).map_err(|_| Errno::EFAULT)?;
        Ok(value)
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
    pub fn write<T: IntoBytes + Immutable + ?Sized>(&mut self, address: u64, value: &T) -> Result<(), Errno> {
        self.platform.write_bytes(address, value.as_bytes()).map_err(|_| Errno::EFAULT)
    }
}

/// An entry point given by a guest must be canonical: a CPU that is sent to any other faults in ring 0.
///
/// # Errors
/// `EINVAL`.
pub(super) fn canonical(address: u64) -> Result<u64, Errno> {
    if is_canonical(address) { Ok(address) } else { Err(Errno::EINVAL) }
}
