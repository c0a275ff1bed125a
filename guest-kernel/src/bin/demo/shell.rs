//! The greeting and the prompt.

use crate::command::{Command, HELP};
use crate::network::Network;
use crate::{crash, disk, tasks};
use guest_kernel::line::{Key, LineEditor};
use guest_kernel::start::{command_line, start_info};
use guest_kernel::version::Version;
use guest_kernel::{StartInfo, cmdline, console, entry, exit, memory, print, println, time, vcpu};
use pv_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};

entry!(main);

fn name() -> &'static str {
    cmdline::option(command_line(), "name").unwrap_or("guest")
}

fn main(_info: &'static StartInfo) -> ! {
    greet();
    disk::greet();
    let mut network = Network::start(name());
    prompt();
    let mut line = LineEditor::new();
    loop {
        if let Some(byte) = console::key() {
            key(&mut line, byte, &mut network);
            continue;
        }
        match &mut network {
            Some(network) => {
                network.work();
                console::wait_for_key_or(&network.ports(), network.deadline());
            }
            None => console::wait_for_key(),
        }
    }
}

fn greet() {
    let pages = start_info().nr_pages;
    let (heap, _) = memory::heap_size();
    println!("Hello from {}, a paravirtualized Rust kernel.", name());
    println!("  hypervisor    Xen ABI {}", Version::read());
    println!("  memory        {} MiB ({pages} pages), heap {} KiB", pages >> 8, heap >> 10);
    println!("  vCPUs         {}", vcpu::count());
    println!("  command line  {}", command_line());
    println!("Type help for the commands.");
}

fn prompt() {
    print!("{}> ", name());
}

/// Feeds one key to the editor and shows its effect on the terminal.
fn key(line: &mut LineEditor, byte: u8, network: &mut Option<Network>) {
    match line.key(byte) {
        Key::Ignored => {}
        Key::Typed(byte) => print!("{}", char::from(byte)),
        Key::Erased(count) => (0..count).for_each(|_| print!("\u{8} \u{8}")),
        Key::Cancelled => {
            println!("^C");
            prompt();
        }
        Key::Entered => {
            println!();
            line.take(|text| obey(Command::parse(text), network));
            prompt();
        }
    }
}

fn obey(command: Command<'_>, network: &mut Option<Network>) {
    match command {
        Command::Nothing => {}
        Command::Help => println!("{HELP}"),
        Command::Info => {
            greet();
            if let Ok(memory) = memory::lock() {
                println!("  free frames   {}", memory.free_frames());
            }
            if let Some(network) = network {
                network.info();
            }
        }
        Command::Tasks => tasks::run(),
        Command::Disk(task) => disk::run(task, network.as_mut().map(Network::store)),
        Command::UnknownDisk(words) => println!("disk: cannot {words}; try help"),
        Command::Uptime => match time::uptime() {
            Some(nanoseconds) => {
                println!("up {}.{:03} s", nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000);
            }
            None => println!("there is no clock"),
        },
        Command::Echo(text) => println!("{text}"),
        Command::Stream { to, mebibytes } => match network {
            Some(network) => network.stream(to, mebibytes),
            None => println!("stream: there is no network"),
        },
        Command::Halt => exit::shutdown(SHUTDOWN_POWEROFF),
        Command::Reboot => exit::shutdown(SHUTDOWN_REBOOT),
        Command::Crash(way) => crash::die(way),
        Command::UnknownCrash(way) => println!("crash: no way called {way}; try help"),
        Command::Unknown(word) => println!("{word}: no such command; try help"),
    }
}
