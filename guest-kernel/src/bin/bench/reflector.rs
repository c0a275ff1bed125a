//! A second domain, at the other end of the bridge: it does what frames ask for.

use crate::frames::{Ask, FRAME, Link, SHORT, frame};
use crate::run::option;
use guest_kernel::net::{Error, Mac};
use guest_kernel::println;

/// Does so for good, if the command line says so.
pub fn reflect() {
    if option("reflects").is_some() {
        let Err(error) = serve();
        println!("bench: the reflector is broken: {error}");
    }
}

fn serve() -> Result<core::convert::Infallible, Error> {
    let mut link = Link::connect()?;
    let own = link.mac();
    println!("bench: reflects");
    loop {
        let received = link.receive()?;
        let Some(sender) = Mac::read(&received, 6) else { continue };
        let (count, length) = match Ask::of(&received) {
            Ask::Nothing => continue,
            Ask::Answer => (1, SHORT),
            Ask::Frames(count) => (count, FRAME),
        };
        let answer = frame(sender, own, length, Ask::Nothing);
        (0..count).try_for_each(|_| link.send(&answer))?;
        link.push()?;
    }
}
