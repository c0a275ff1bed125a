//! All disks and all virtual disks, and what a turn does for them.
//!
//! A virtual disk that panics is cut off ([`contain`](crate::contain)), and its neighbours don't notice. The disks, this list,
//! and what a completion does are what they share: a panic there can't be contained.

use super::disk::Disk;
use super::platform::Platform;
use super::queue::{Batch, Queue};
use super::request::Volume;
use super::vbd::{Fault, Vbd};
use crate::contain::contain;
use crate::domains::traffic::Traffic;
use crate::service::Allowance;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::store::Bus;
use guest_kernel::xenbus::XenbusState;

/// Most completions of a disk that are taken in a turn.
const MAX_COMPLETIONS: usize = 256;
/// What a look at a frontend's state costs its domain, in nanoseconds: as much as to connect.
const LOOK_COST: u64 = 1_000_000;
/// What a lie in a ring costs, for which it is closed; and a request that is refused.
const LIE_COST: u64 = 10_000_000;
const REFUSAL_COST: u64 = 100_000;
/// What a panic costs.
const PANIC_COST: u64 = 10_000_000;

/// The back end.
pub struct Hub<P: Platform> {
    platform: P,
    disks: Vec<Box<dyn Disk>>,
    /// A virtual disk's number is in its operations' tokens: it keeps its place until the last one has completed.
    vbds: Vec<Option<Member<P>>>,
    batch: Batch,
    /// Who gives the disk its operations first, in turn.
    first: usize,
}

struct Member<P: Platform> {
    vbd: Vbd<P>,
    disk: usize,
    /// Its ring may have more requests.
    more: bool,
    /// It is to go when the disk is done with it.
    leaves: bool,
    /// The frontend's state may have changed, and was not looked at.
    changed: bool,
    allowance: Allowance,
    /// For requests that are refused.
    patience: Allowance,
}

/// Where an operation belongs, as 64 bits.
#[derive(Clone, Copy)]
struct Token {
    vbd: usize,
    queue: usize,
    job: u16,
}

impl Token {
    const fn encode(self) -> u64 {
        (self.vbd as u64) << 32 | (self.queue as u64) << 16 | self.job as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "each part is cut out at its width")]
    const fn decode(token: u64) -> Token {
        Token { vbd: (token >> 32) as usize, queue: (token >> 16) as usize & 0xffff, job: token as u16 }
    }
}

impl<P: Platform> Hub<P> {
    /// A back end without disks.
    pub fn new(platform: P) -> Hub<P> {
        Hub { platform, disks: Vec::new(), vbds: Vec::new(), batch: Batch::default(), first: 0 }
    }

    /// Adds a disk, and returns its number.
    pub fn add_disk(&mut self, disk: Box<dyn Disk>) -> usize {
        self.disks.push(disk);
        self.disks.len() - 1
    }

    /// Adds a virtual disk on the disk with the number `disk`, whose directories a toolstack wrote.
    pub fn add(
        &mut self,
        directory: &str,
        frontend: &str,
        domain: u16,
        (disk, volume): (usize, Volume),
        store: &mut impl Bus,
    ) {
        let vbd = Vbd::new(directory, frontend, domain, volume, store);
        let member = Some(Member {
            vbd,
            disk,
            more: false,
            leaves: false,
            changed: false,
            allowance: Allowance::default(),
            patience: Allowance::default(),
        });
        match self.vbds.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = member,
            None => self.vbds.push(member),
        }
    }

    /// Whether there is a virtual disk with this directory.
    pub fn has(&self, directory: &str) -> bool {
        self.vbds.iter().flatten().any(|member| !member.leaves && member.vbd.directory() == directory)
    }

    /// The directories of all virtual disks.
    pub fn directories(&self) -> Vec<String> {
        let members = self.vbds.iter().flatten().filter(|member| !member.leaves);
        members.map(|member| member.vbd.directory().into()).collect()
    }

    /// What was read from and written to the virtual disks of a domain.
    pub fn traffic(&self, domain: u16) -> Traffic {
        let members = self.vbds.iter().flatten().filter(|member| member.vbd.domain() == domain);
        members.fold(Traffic::default(), |all, member| all + member.vbd.traffic())
    }

    /// Removes a virtual disk whose directory is gone, as soon as the disk is done with it. Returns its frontend's
    /// directory.
    pub fn remove(&mut self, directory: &str) -> Option<String> {
        let mut members = self.vbds.iter_mut().flatten();
        let member = members.find(|member| !member.leaves && member.vbd.directory() == directory)?;
        (member.leaves, member.more) = (true, false);
        member.vbd.abandon();
        Some(member.vbd.frontend().into())
    }

    /// The state of the frontend with this directory may have changed: the next turn looks at it.
    pub fn frontend_changed(&mut self, frontend: &str) {
        let members = self.vbds.iter_mut().flatten().filter(|member| !member.leaves);
        members.filter(|member| member.vbd.frontend() == frontend).for_each(|member| member.changed = true);
    }

    /// Has a virtual disk panic when it next takes requests, to see what becomes of its frontend. Whether there is one with
    /// this directory.
    pub fn doom(&mut self, directory: &str) -> bool {
        let mut members = self.vbds.iter_mut().flatten();
        let member = members.find(|member| !member.leaves && member.vbd.directory() == directory);
        member.map(|member| member.vbd.doom()).is_some()
    }

    /// Looks at the states of frontends that may have changed, at system time `now`. When those can be looked at whose
    /// domains have no time left.
    pub fn follow(&mut self, now: u64, store: &mut impl Bus, report: &mut impl FnMut(&str, &Fault)) -> Option<u64> {
        let Hub { platform, batch, vbds, .. } = self;
        let shared = &mut Shared { now, store, platform, batch, report, panicked: false };
        let mut later = None;
        for member in vbds.iter_mut().flatten().filter(|member| member.changed && !member.leaves) {
            let ready = member.allowance.ready(now);
            if ready.is_ok() {
                member.changed = false;
                member.allowance.spend(now, LOOK_COST);
                member.follow(shared);
            }
            if member.changed {
                later = later.into_iter().chain([ready.err().unwrap_or(now)]).min();
            }
        }
        later
    }

    /// One turn, at system time `now`: what the disks have completed, what the frontends ask for. Whether there is more to
    /// do at once, and when there is.
    pub fn turn(
        &mut self,
        now: u64,
        store: &mut impl Bus,
        report: &mut impl FnMut(&str, &Fault),
    ) -> (bool, Option<u64>) {
        let mut more = self.take_completions();
        let mut later = None;
        let Hub { platform, batch, vbds, disks, first } = self;
        let shared = &mut Shared { now, store, platform, batch, report, panicked: false };
        for member in vbds.iter_mut().flatten() {
            if let Err(at) = member.patience.ready(now) {
                // Whatever rings meanwhile.
                member.more = true;
                later = later.into_iter().chain([at]).min();
                continue;
            }
            more |= member.take(shared);
        }
        // A disk that is always full serves everybody in turn.
        *first = (*first + 1) % vbds.len().max(1);
        for index in (*first..vbds.len()).chain(0..*first) {
            if let Some(member) = &mut vbds[index] {
                member.submit(index, disks, shared);
            }
        }
        disks.iter_mut().for_each(|disk| disk.kick());
        for place in vbds {
            let Some(member) = place else { continue };
            let room = member.answer(shared);
            more |= room && member.patience.ready(now).is_ok();
            if member.vbd.is_drained() {
                member.follow(shared);
            }
            if member.leaves && member.vbd.is_idle() {
                *place = None;
            }
        }
        (more || shared.panicked, later)
    }

    /// Hands completions to their queues. Whether there may be more.
    fn take_completions(&mut self) -> bool {
        let mut more = false;
        for disk in &mut self.disks {
            let mut count = 0;
            while count < MAX_COMPLETIONS
                && let Some((token, result)) = disk.complete()
            {
                let Token { vbd, queue, job } = Token::decode(token);
                let member = self.vbds.get_mut(vbd).and_then(Option::as_mut);
                if let Some(queue) = member.and_then(|member| member.vbd.queue(queue)) {
                    queue.complete(job, result.is_ok());
                }
                count += 1;
            }
            more |= count == MAX_COMPLETIONS;
        }
        more
    }
}

/// What the virtual disks share in a turn.
struct Shared<'a, P, B, R> {
    now: u64,
    store: &'a mut B,
    platform: &'a mut P,
    batch: &'a mut Batch,
    report: &'a mut R,
    /// One of them has.
    panicked: bool,
}

impl<P: Platform> Member<P> {
    /// Has the virtual disk do a part of its turn. If it panics it is cut off, and there is no result.
    fn contain<B: Bus, R: FnMut(&str, &Fault), T>(
        &mut self,
        shared: &mut Shared<'_, P, B, R>,
        part: impl FnOnce(&mut Vbd<P>, &mut Shared<'_, P, B, R>) -> T,
    ) -> Option<T> {
        let panicked = match contain(|| part(&mut self.vbd, shared)) {
            Ok(result) => return Some(result),
            Err(panicked) => panicked,
        };
        self.vbd.cut_off(shared.store, shared.platform, shared.batch);
        (shared.report)(self.vbd.directory(), &Fault::Panicked(panicked));
        shared.panicked = true;
        // The frontend may have changed its state, and it was not seen to the end.
        (self.more, self.changed) = (false, true);
        self.allowance.spend(shared.now, PANIC_COST);
        None
    }

    fn follow<B: Bus, R: FnMut(&str, &Fault)>(&mut self, shared: &mut Shared<'_, P, B, R>) {
        let followed = self.contain(shared, |vbd, shared| vbd.follow(shared.store, shared.platform));
        if let Some(Err(fault)) = followed {
            (shared.report)(self.vbd.directory(), &fault);
        }
        // A new ring may have requests in it, which no event will tell of.
        self.more = self.vbd.state() == XenbusState::Connected;
    }

    /// Takes requests. Whether there may be more.
    fn take<B: Bus, R: FnMut(&str, &Fault)>(&mut self, shared: &mut Shared<'_, P, B, R>) -> bool {
        let anyway = self.more;
        let taken = self.contain(shared, |vbd, shared| vbd.take(anyway, shared.store, shared.platform, shared.batch));
        self.more = match taken {
            Some(Ok(more)) => more,
            Some(Err(fault)) => {
                (shared.report)(self.vbd.directory(), &fault);
                self.allowance.spend(shared.now, LIE_COST);
                false
            }
            None => false,
        };
        let refused: u64 = self.vbd.queues().map(Queue::take_refused).sum();
        self.patience.spend(shared.now, refused * REFUSAL_COST);
        self.more
    }

    /// Gives the disk what waits for it, as `vbd`. What finds no room waits for a completion.
    fn submit<B: Bus, R: FnMut(&str, &Fault)>(
        &mut self,
        vbd: usize,
        disks: &mut [Box<dyn Disk>],
        shared: &mut Shared<'_, P, B, R>,
    ) {
        let disk = &mut *disks[self.disk];
        self.contain(shared, |member, _| {
            for (queue, jobs) in member.queues().enumerate() {
                if jobs.submit(disk, Token { vbd, queue, job: 0 }.encode()).is_err() {
                    break;
                }
            }
        });
    }

    /// Answers what is over. Whether that made room for requests that wait.
    fn answer<B: Bus, R: FnMut(&str, &Fault)>(&mut self, shared: &mut Shared<'_, P, B, R>) -> bool {
        self.contain(shared, |vbd, shared| vbd.answer(shared.platform, shared.batch)).unwrap_or(false)
    }
}
