//! `GNTTABOP_unmap_grant_ref` and `GNTTABOP_unmap_and_replace`.
//!
//! A few requests together: page-table entries are cleared first, then CPUs flush, then the granters learn that nobody uses
//! their grants any more. Meanwhile the handles are taken, so that nobody unmaps one twice.

use arrayvec::ArrayVec;
use pv_abi::errno::Errno;
use pv_abi::grant::{GNTST_OKAY, GnttabUnmapAndReplace, GnttabUnmapGrantRef};

use super::{COST, Call, Halt, List, Platform, Reply, Request, place};
use crate::grant::{Handle, Mapping, Refusal, Uses};

/// Requests for which CPUs flush once.
const CHUNK: usize = 32;

/// What a request asks for.
struct Unmap {
    handle: u32,
    host_addr: u64,
    /// Where the entry is that comes to the place of the mapping's; 0 for none.
    new_addr: u64,
    dev_bus_addr: u64,
}

/// A handle in our hands.
struct Ended {
    handle: Handle,
    mapping: Mapping,
    /// What it is not used for any more.
    uses: Uses,
}

pub(super) fn unmap_grant_ref<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    run(call, |&GnttabUnmapGrantRef { host_addr, dev_bus_addr, handle, .. }| Unmap {
        handle,
        host_addr,
        new_addr: 0,
        dev_bus_addr,
    })
}

pub(super) fn unmap_and_replace<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    run(call, |&GnttabUnmapAndReplace { host_addr, new_addr, handle, .. }| Unmap {
        handle,
        host_addr,
        new_addr,
        dev_bus_addr: 0,
    })
}

fn run<P: Platform, T: Request>(call: &mut Call<'_, P>, parse: impl Fn(&T) -> Unmap) -> Reply {
    let mut list = List::of::<P, T>(call)?;
    while list.left > 0 {
        let mut ended = ArrayVec::new();
        let result = some(call, &mut list, &parse, &mut ended);
        finish(call, ended);
        match result {
            Ok(()) => {}
            Err(Stopped::Fault) => return Err(Errno::EFAULT.into()),
            Err(Stopped::Again) => return Err(list.again(call)),
        }
    }
    Ok(0)
}

/// Why the list doesn't go on.
enum Stopped {
    Fault,
    Again,
}

impl From<Errno> for Stopped {
    fn from(_: Errno) -> Stopped {
        Stopped::Fault
    }
}

/// Clears the page-table entries of some mappings.
fn some<P: Platform, T: Request>(
    call: &mut Call<'_, P>,
    list: &mut List,
    parse: &impl Fn(&T) -> Unmap,
    ended: &mut ArrayVec<Ended, CHUNK>,
) -> Result<(), Stopped> {
    while list.left > 0 && !ended.is_full() {
        let mut request: T = call.read(list.at)?;
        let unmap = parse(&request);
        if ended.iter().any(|ended| ended.handle.0 == unmap.handle) {
            // A part of the mapping ended just now; what is left of it is known when that is done.
            return Ok(());
        }
        if call.budget == 0 {
            return Err(Stopped::Again);
        }
        *request.status() = match one(call, &unmap, ended) {
            Ok(()) => GNTST_OKAY,
            Err(Halt::Refused(refusal)) => refusal.status(),
            Err(Halt::Again) => return Err(Stopped::Again),
            Err(Halt::Code(_)) => return Err(Stopped::Fault),
        };
        call.budget = call.budget.saturating_sub(COST);
        call.write(list.at, &request)?;
        list.advance::<T>();
    }
    Ok(())
}

fn one<P: Platform>(call: &mut Call<'_, P>, unmap: &Unmap, ended: &mut ArrayVec<Ended, CHUNK>) -> Result<(), Halt> {
    let own = call.platform.grants().clone();
    let mapping = own.take_handle(unmap.handle)?;
    let (handle, uses) = (Handle(unmap.handle), wanted(&mapping, unmap));
    match clear(call, unmap, &mapping, uses) {
        Ok(()) if uses.host || uses.device => {
            ended.push(Ended { handle, mapping, uses });
            Ok(())
        }
        result => {
            own.set_handle(handle, mapping);
            result
        }
    }
}

/// What is to end. An address of 0 leaves what is there.
fn wanted(mapping: &Mapping, unmap: &Unmap) -> Uses {
    Uses {
        host: mapping.uses.host && unmap.host_addr != 0,
        device: mapping.uses.device && unmap.dev_bus_addr != 0,
        writable: mapping.uses.writable,
    }
}

fn clear<P: Platform>(call: &mut Call<'_, P>, unmap: &Unmap, mapping: &Mapping, uses: Uses) -> Result<(), Halt> {
    if uses.device && unmap.dev_bus_addr != mapping.mfn.base().0 {
        return Err(Refusal::BadDeviceAddress.into());
    }
    if !uses.host {
        return Ok(());
    }
    let at = place(call, unmap.host_addr, mapping.by_entry)?;
    let from = match unmap.new_addr {
        0 => None,
        // As in Xen: entries that are named by their own address aren't replaced.
        _ if mapping.by_entry => return Err(Refusal::General.into()),
        address => Some(place(call, address, false)?),
    };
    Ok(call.memory(|op, _| op.unmap_granted(at, mapping.mfn, mapping.uses.writable, from))?)
}

/// What follows when page-table entries are cleared.
fn finish<P: Platform>(call: &mut Call<'_, P>, ended: ArrayVec<Ended, CHUNK>) {
    if ended.iter().any(|ended| ended.uses.host) {
        let cpus = call.platform.space().cpus.load();
        call.platform.flush(cpus);
    }
    let own = call.platform.grants().clone();
    for Ended { handle, mut mapping, uses } in ended {
        if uses.device {
            let done = call.memory(|op, _| {
                op.put_granted(mapping.mfn, uses.writable);
                Ok(())
            });
            debug_assert!(done.is_ok(), "nothing is refused, and nothing to wait for");
        }
        mapping.granter.unpin(call.platform.mmu().memory, mapping.gref, uses);
        mapping.uses = Uses {
            host: mapping.uses.host && !uses.host,
            device: mapping.uses.device && !uses.device,
            writable: mapping.uses.writable,
        };
        if mapping.uses.host || mapping.uses.device {
            own.set_handle(handle, mapping);
        } else {
            own.free_handle(handle);
        }
    }
}
