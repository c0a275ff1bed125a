//! The domain that has the hardware: its interrupts and its event channels.

use std::sync::Arc;
use std::vec::Vec;

use pv_abi::errno::Errno;
use pv_abi::event::EVTCHNSTAT_PIRQ;

use super::{Controllers, LINES, NO_FUNCTION, OWN_LINE, WITH_TABLE, WITHOUT_TABLE};
use crate::addr::{DomainId, VcpuId};
use crate::device::interrupts::{Interrupts, Table};
use crate::device::pirq::{PIRQS, Source};
use crate::event::tests::domain;
use crate::event::{Closing, Events};

const TABLE: Table = Table { base: 0x8000_0000, address: 0x8000_1000, entries: 4 };

const fn line(gsi: u32) -> Source {
    Source::Pin { gsi }
}

const fn entry(entry: u16) -> Source {
    Source::Msix { function: WITH_TABLE, entry }
}

fn owned() -> (&'static Controllers, Interrupts, Arc<Events>) {
    let controllers = Controllers::leak();
    let interrupts = Interrupts::new(controllers);
    let events = domain(0, 2, 100).0;
    interrupts.give_to(&events);
    (controllers, interrupts, events)
}

#[test]
fn a_line_has_its_own_number_and_a_message_one_from_above() {
    let (_, interrupts, _) = owned();
    assert_eq!(interrupts.map(line(3), None, None), Ok(3));
    assert_eq!(interrupts.map(line(3), None, None), Ok(3));
    assert_eq!(interrupts.map(line(3), Some(3), None), Ok(3));
    assert_eq!(interrupts.map(line(3), Some(9), None), Err(Errno::EINVAL));
    assert_eq!(interrupts.map(line(5), Some(3), None), Err(Errno::EBUSY));
    assert_eq!(interrupts.map(line(5), Some(PIRQS), None), Err(Errno::EINVAL));
    assert_eq!(interrupts.map(line(OWN_LINE), None, None), Err(Errno::EBUSY));
    assert_eq!(interrupts.map(line(LINES), None, None), Err(Errno::EINVAL));
    assert_eq!(interrupts.map(entry(0), None, Some(&TABLE)), Ok(PIRQS - 1));
    assert_eq!(interrupts.map(entry(4), None, Some(&TABLE)), Err(Errno::EINVAL));
    assert_eq!(interrupts.map(Source::Msi { function: NO_FUNCTION }, None, None), Err(Errno::ENODEV));
    assert_eq!(interrupts.free_number(), Ok(PIRQS - 2));
}

#[test]
fn vectors_are_given_once_and_come_back() {
    let (controllers, interrupts, _) = owned();
    let sources: Vec<Source> = [0, 1, 2, 3, 5, 6].map(line).into();
    for &source in &sources {
        interrupts.map(source, None, None).unwrap();
    }
    assert_eq!(interrupts.map(line(7), None, None), Err(Errno::ENOSPC));
    interrupts.unmap(2).unwrap();
    assert_eq!(interrupts.unmap(2), Err(Errno::EINVAL));
    assert_eq!(interrupts.map(line(7), None, None), Ok(7));
    assert_eq!(controllers.connections(), sources.len());
}

#[test]
fn a_source_is_open_while_its_port_is() {
    let (controllers, interrupts, events) = owned();
    let pirq = interrupts.map(entry(1), None, Some(&TABLE)).unwrap();
    assert_eq!(interrupts.bind(pirq + 1), Err(Errno::EINVAL));
    assert!(controllers.of(entry(1)).unwrap().1);
    let port = interrupts.bind(pirq).unwrap();
    assert!(!controllers.of(entry(1)).unwrap().1);
    assert_eq!(interrupts.bind(pirq), Err(Errno::EEXIST));
    let status = events.status(port).unwrap();
    assert_eq!((status.status, status.detail), (EVTCHNSTAT_PIRQ, pirq));
    assert!(events.send(port).is_err());
    events.bind_vcpu(port, VcpuId(1)).unwrap();

    let (vector, _) = controllers.of(entry(1)).unwrap();
    assert!(interrupts.arrived(vector).is_some());
    assert_eq!(events.is_pending(port), Ok(true));
    assert!(interrupts.arrived(0x41).is_none());

    events.close(port).unwrap();
    interrupts.prune();
    assert!(controllers.of(entry(1)).unwrap().1);
    // What is still on its way reaches nobody, whoever has the port now.
    let next = events.alloc_unbound(DomainId(1)).unwrap();
    assert_eq!(next, port);
    assert!(interrupts.arrived(vector).is_some());
    assert_eq!(events.is_pending(next), Ok(false));
    assert_ne!(interrupts.bind(pirq).unwrap(), port);
}

/// The port was closed, and its number is in use for something else, before we hear of it.
#[test]
fn a_closed_port_gets_nothing_at_once() {
    let (controllers, interrupts, events) = owned();
    let pirq = interrupts.map(line(1), None, None).unwrap();
    let port = interrupts.bind(pirq).unwrap();
    events.close(port).unwrap();
    assert_eq!(events.alloc_unbound(DomainId(1)), Ok(port));
    let (vector, _) = controllers.of(line(1)).unwrap();
    assert!(interrupts.arrived(vector).is_some());
    assert_eq!(events.is_pending(port), Ok(false));
    // Who binds anew needs no word about it either.
    assert!(interrupts.bind(pirq).is_ok());
}

#[test]
fn a_reset_closes_all_sources() {
    let (controllers, interrupts, events) = owned();
    for gsi in 0..3 {
        let pirq = interrupts.map(line(gsi), None, None).unwrap();
        interrupts.bind(pirq).unwrap();
    }
    assert!(events.close_all(Closing::Reset, &mut 1000));
    interrupts.prune();
    assert!((0..3).all(|gsi| controllers.of(line(gsi)).unwrap().1));
}

#[test]
fn nothing_dangles_when_the_domain_ends() {
    let (controllers, interrupts, _) = owned();
    for source in [line(1), line(2)] {
        let pirq = interrupts.map(source, None, None).unwrap();
        interrupts.bind(pirq).unwrap();
    }
    let message = interrupts.map(entry(0), None, Some(&TABLE)).unwrap();
    interrupts.bind(message).unwrap();
    let (vector, _) = controllers.of(line(1)).unwrap();
    interrupts.release();
    assert_eq!((controllers.connections(), controllers.is_stopped()), (0, true));
    assert!(interrupts.arrived(vector).is_none());
    assert_eq!(interrupts.map(line(1), None, None), Err(Errno::EPERM));
    assert_eq!(interrupts.bind(1), Err(Errno::EPERM));
    assert!(matches!(interrupts.end(1), Err(Errno::EINVAL)));
}

#[test]
fn a_function_that_is_gone_takes_its_messages_along() {
    let (controllers, interrupts, _) = owned();
    let other = Source::Msi { function: WITHOUT_TABLE };
    for (source, table) in [(entry(0), Some(&TABLE)), (entry(3), Some(&TABLE)), (other, None), (line(1), None)] {
        let pirq = interrupts.map(source, None, table).unwrap();
        interrupts.bind(pirq).unwrap();
    }
    interrupts.forget(WITH_TABLE);
    assert!(controllers.of(entry(0)).is_none() && controllers.of(entry(3)).is_none());
    assert!(controllers.of(other).is_some() && controllers.of(line(1)).is_some());
}

#[test]
fn an_edge_that_may_have_been_missed_is_told_once_more() {
    let (controllers, interrupts, events) = owned();
    let pirq = interrupts.map(line(0), None, None).unwrap();
    let port = interrupts.bind(pirq).unwrap();
    let (vector, _) = controllers.of(line(0)).unwrap();
    let masked = || controllers.of(line(0)).unwrap().1;
    let _ = interrupts.arrived(vector);
    assert!(!masked());
    let _ = interrupts.arrived(vector);
    assert!(masked());
    assert!(interrupts.end(pirq).unwrap().is_some() && !masked());
    assert!(interrupts.end(pirq).unwrap().is_none());
    assert_eq!(events.is_pending(port), Ok(true));
}
