//! The control domain's kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod kernel {
    use alloc::boxed::Box;
    use alloc::rc::Rc;
    use alloc::vec::Vec;
    use boot_archive::{Archive, LogLevel};
    use core::cell::RefCell;
    use dom0::console::{self, Keyboard};
    use dom0::contain;
    use dom0::domains::drivers::Drivers;
    use dom0::domains::{Attendant, Domains, Supervisor};
    use dom0::service::{self, Full};
    use dom0::store::Connection;
    use guest_kernel::{StartInfo, control, entry};
    use log::LevelFilter;
    use pv_abi::errno::Errno;

    entry!(main);

    fn main(_info: &'static StartInfo) -> ! {
        contain::init();
        let module = control::module().unwrap_or_else(|error| panic!("the memory: {error}"));
        let archive = Archive::parse(module.unwrap_or_default()).unwrap_or_else(|error| panic!("RAM disk: {error}"));
        let keys = console::init(level(archive.config().console.log_level));
        let keys = keys.unwrap_or_else(|error| panic!("the console: {error:?}"));
        let services = service::services().unwrap_or_else(|error| panic!("events: {error:?}"));
        let (store, rings) = dom0::store::start(&services);
        let attendants = match dom0::block::start(&services, &store, &archive.config().domains) {
            Ok(disks) => {
                let others: Box<dyn Attendant> = Box::new(Drivers::new(Connection::new(&store)));
                Vec::from([disks, dom0::net::start(&services, &store), others])
            }
            Err(error) => panic!("the block back end: {error:?}"),
        };
        let domains = Rc::new(RefCell::new(Domains::new(archive, services.clone(), (&store, rings), attendants)));
        let added = services
            .add(|waker| Ok::<_, Missing>((Supervisor::new(domains.clone(), waker)?, ())))
            .and_then(|()| services.add(|waker| Ok((Keyboard::new(keys, domains.clone(), waker), ()))));
        if let Err(Missing(error)) = added {
            panic!("keyboard and supervisor: {error:?}");
        }
        service::run(&services)
    }

    /// A service can't be had.
    struct Missing(Option<Errno>);

    impl From<Full> for Missing {
        fn from(Full: Full) -> Missing {
            Missing(None)
        }
    }

    impl From<Errno> for Missing {
        fn from(errno: Errno) -> Missing {
            Missing(Some(errno))
        }
    }

    fn level(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
            LogLevel::Trace => LevelFilter::Trace,
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("dom0 is a kernel: build it for x86_64-hv.json");
}
